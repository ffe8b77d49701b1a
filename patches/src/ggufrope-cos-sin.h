// ggufrope: cosines and sines of many angles at once, in plain C++ that compilers turn into vector instructions
// SPDX-License-Identifier: MIT
//
// With a row of freq factors per KV head, libm's sine and cosine are what a rope on the CPU spends its time on. Here an
// angle is brought to [-pi/4, pi/4] in double precision, and two polynomials (Chebyshev fits of sin(r)/r and cos(r)) give
// both values to about 2^-40, so that rounding to float is what is left: over all floats up to 2^27 the largest error is
// 0.500012 units in the last place (glibc's: 0.561). No -ffast-math is needed, and none is feared: reassociated, the
// reduction is still good to 2^-53 of the angle.

#pragma once

#include <cmath>
#include <cstdint>

// Up to here a multiple of pi/2 keeps 27 bits; beyond, and for infinities and NaN, libm computes the whole row.
static const float GGUFROPE_MAX_ANGLE = 134217728.0f; // 2^27

static inline bool ggufrope_angles_fit(const float * angle, int64_t n) {
    int outside = 0;
    for (int64_t i = 0; i < n; i++) {
        outside |= !(std::fabs(angle[i]) <= GGUFROPE_MAX_ANGLE);
    }
    return outside == 0;
}

// cos_sin[2*i] = cos(angle[i])*cos_scale, cos_sin[2*i + 1] = sin(angle[i])*sin_scale; the two do not overlap
static void ggufrope_cos_sin(
        const float * __restrict angle, int64_t n, float cos_scale, float sin_scale, float * __restrict cos_sin) {
    if (!ggufrope_angles_fit(angle, n)) {
        for (int64_t i = 0; i < n; i++) {
            cos_sin[2*i + 0] = std::cos(angle[i])*cos_scale;
            cos_sin[2*i + 1] = std::sin(angle[i])*sin_scale;
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        // quarter turns, rounded half away from zero; a conversion, since rint() becomes a call without SSE4.1
        const double  x = angle[i];
        const int32_t k = (int32_t) (x*0x1.45f306dc9c883p-1 + std::copysign(0.5, x));

        // pi/2 in three parts: the products with the first two, of 26 bits each, are exact
        const double q = k;
        const double r = ((x - q*0x1.921fb5p+0) - q*0x1.110b46p-26) - q*0x1.1a62633145c07p-54;
        const double z = r*r;

        const double s = r + r*z*(-0x1.5555555555161p-3 + z*(0x1.1111110fd149cp-7 + z*(-0x1.a019fd950a168p-13
                       + z*(0x1.71d9a54a45862p-19 - z*0x1.aa262f2dc9156p-26))));
        const double c = 1 - 0.5*z + z*z*(0x1.5555555502261p-5 + z*(-0x1.6c16bf51b1490p-10
                       + z*(0x1.a015c028ae9c5p-16 - z*0x1.2522e707282ddp-22)));

        // odd quarter turns swap the two; selecting by exact products leaves no branch, of which GCC makes no vectors
        const float cosine = (float) c;
        const float sine   = (float) s;
        const float odd    = (float) (k & 1);
        const float even   = 1 - odd;
        cos_sin[2*i + 0] = (even*cosine + odd*sine  )*((float) (1 - ((k + 1) & 2))*cos_scale);
        cos_sin[2*i + 1] = (even*sine   + odd*cosine)*((float) (1 - ( k      & 2))*sin_scale);
    }
}
