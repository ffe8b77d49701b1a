// Metal's names for a C++17 compiler, so that the text of a Metal kernel runs on the CPU: one thread after the other.
//
// Metal's language is C++14 with address spaces, vector types and attributes. The address spaces become nothing; a
// compiler ignores attributes that it does not know; a function constant becomes a variable that the host sets.
// It cannot show what Apple's compiler makes of the text, a GPU's own sine and power, or speed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

using std::ceil;
using std::cos;
using std::exp;
using std::fabs;
using std::floor;
using std::log;
using std::max;
using std::min;
using std::pow;
using std::sin;

#define M_PI_F 3.14159265358979323846f

namespace metal {
template <typename T, int n> struct vec {
    T v[n];
    T &       operator[](int i) { return v[i]; }
    const T & operator[](int i) const { return v[i]; }
};
template <typename T> struct vec<T, 3> {
    T x, y, z;
    T operator[](int i) const { return i == 0 ? x : i == 1 ? y : z; }
};
template <typename To, typename From> To as_type(From from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}
} // namespace metal

typedef _Float16 half;
typedef unsigned short ushort;
typedef metal::vec<float, 4>    float4;
typedef metal::vec<ushort, 3>   ushort3;
typedef metal::vec<uint32_t, 3> uint3;

#define device
#define constant
#define thread
#define threadgroup
#define kernel
