// ggufrope: saved states know how their K was rotated
// SPDX-License-Identifier: MIT
//
// Both kinds of states begin with the tag of the context that made them, if it has one:
//
// - of a whole context: the architecture's name, then " ggufrope:", the hash in 16 hexadecimal digits, a space, the text
// - of a sequence: "ggufrope", the hash as u64, the text; without a tag it begins with a small number instead
//
// An unpatched runtime refuses either: as another architecture, or for its number of streams.

#include "ggufrope-context.h"
#include "ggufrope-error.h"
#include "ggufrope-tables.h"
#include "ggufrope-tag.h"

#include "llama-context.h"
#include "llama-cparams.h"
#include "llama-impl.h"
#include "llama-io.h"
#include "llama-model.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

static const char * const ARCH_SEPARATOR = " ggufrope:";
static const char         SEQ_MAGIC[]    = "ggufrope";
static const char         SEQ_OLD[]      = "\x1a\0\0\0 ggu"; // how the tag began up to interface 2, with its length

static constexpr uint32_t MAX_ARCH = 512; // bytes of an architecture's name with a tag

namespace {

// goes on where a part of the data was read already
class io_read_rest : public llama_io_read_i {
public:
    io_read_rest(llama_io_read_i & io, std::string taken) : io(io), taken(std::move(taken)) {}

    void read(void * dst, size_t size) override {
        const size_t n = std::min(size, taken.size());
        memcpy(dst, taken.data(), n);
        taken.erase(0, n);
        if (size > n) {
            io.read((char *) dst + n, size - n);
        }
    }

    void read_tensor(ggml_tensor * tensor, size_t offset, size_t size) override {
        if (!taken.empty()) {
            throw std::runtime_error("unexpected tensor at the beginning of a state");
        }
        io.read_tensor(tensor, offset, size);
    }

    void   discard() override { io.discard(); }
    size_t n_bytes() override { return io.n_bytes() - taken.size(); }

private:
    llama_io_read_i & io;
    std::string       taken;
};

} // namespace

static uint32_t read_u32(llama_io_read_i & io) {
    uint32_t res = 0; // files that end read as nothing
    io.read(&res, sizeof(res));
    return res;
}

// a damaged file must not make us allocate what it says
static std::string read_string(llama_io_read_i & io, uint32_t max_size, const char * what) {
    const uint32_t size = read_u32(io);
    if (size > max_size) {
        ggufrope_fail(format("the saved state is damaged: %s of %u bytes, expected at most %u", what, size, max_size));
    }
    std::string res(size, '\0');
    io.read(&res[0], size);
    return res;
}

const ggufrope_tag & ggufrope_context::get_tag() const {
    if (!tag) {
        tag = std::make_unique<ggufrope_tag>(ggufrope_make_tag(ctx.model, ctx.cparams, tables.get()));
    }
    return *tag;
}

void ggufrope_context::check_tag(const ggufrope_tag & found) const {
    const auto & own = get_tag();
    if (found.is_set == own.is_set && found.hash == own.hash) {
        return;
    }
    const char * remedy = "process the prompt again without it, or use the model file and the RoPE options that the state was made with";
    if (found.is_set) {
        ggufrope_fail(format("the saved state was made with other RoPE frequencies (%s) than this context has (%s); %s",
            found.describe().c_str(), own.describe().c_str(), remedy));
    }
    ggufrope_fail(format("the saved state was made with %s, this context has other RoPE frequencies (%s); %s",
        found.text.empty() ? "no RoPE scaling, or by a runtime that does not say" : found.text.c_str(), own.describe().c_str(), remedy));
}

//
// the length row and the order of heads
//

void ggufrope_context::write_rows(llama_io_write_i & io) const {
    if (tables && tables->follows_length()) {
        const uint32_t row = tables->length.get_row();
        io.write(&row, sizeof(row));
    }
    if (tables && tables->order) {
        io.write_string(tables->order->get_state());
    }
}

void ggufrope_context::read_rows(llama_io_read_i & io) {
    uint32_t row = 0;
    if (tables && tables->follows_length()) {
        row = read_u32(io);
        const size_t n_rows = tables->spec->length_rows.size();
        if (row >= n_rows) {
            ggufrope_fail(format("the saved state was made with length row %u, there are %zu", row + 1, n_rows));
        }
    }
    row_read = row;
    if (tables && tables->order) {
        const uint32_t size = tables->order->get_state().size();
        tables->order->set_state(read_string(io, size, "an order of heads"));
    }
}

//
// states of a whole context
//

void ggufrope_context::write_state(llama_io_write_i & io, const std::string & arch) const {
    const auto & own = get_tag();
    io.write_string(own.is_set
        ? arch + format("%s%016llx %s", ARCH_SEPARATOR, (unsigned long long) own.hash, own.text.c_str()) : arch);
    write_rows(io);
}

void ggufrope_context::read_state(llama_io_read_i & io, const std::string & arch) {
    ggufrope_set_last_error("");
    const std::string name = read_string(io, MAX_ARCH, "a name of the architecture");
    const size_t      end  = name.find(ARCH_SEPARATOR);
    if (name.substr(0, end) != arch) {
        ggufrope_fail(format("wrong model arch: '%s' instead of '%s'", ggufrope_printable(name).c_str(), arch.c_str()));
    }
    ggufrope_tag found;
    if (end != std::string::npos) {
        const std::string rest = name.substr(end + strlen(ARCH_SEPARATOR));
        found.is_set = true;
        found.hash   = strtoull(rest.substr(0, 16).c_str(), nullptr, 16);
        found.text   = rest.size() > 17 ? ggufrope_printable(rest.substr(17)) : "those of an older ggufrope";
    }
    check_tag(found);
    read_rows(io);
}

//
// states of a sequence
//

void ggufrope_context::write_seq_state(llama_io_write_i & io) const {
    const auto & own = get_tag();
    if (own.is_set) {
        io.write(SEQ_MAGIC, strlen(SEQ_MAGIC));
        io.write(&own.hash, sizeof(own.hash));
        io.write_string(own.text);
        write_rows(io);
    }
}

std::unique_ptr<llama_io_read_i> ggufrope_context::read_seq_state(llama_io_read_i & io) {
    ggufrope_set_last_error("");

    // a word at a time: what has no tag may be shorter than one
    std::string begin;
    const auto begins_with = [&begin](const char * magic) { return memcmp(begin.data(), magic, begin.size()) == 0; };
    do {
        char word[4] = {};
        try {
            io.read(word, sizeof(word));
        } catch (const std::exception &) {
            break; // the end: memories that have nothing to save write nothing
        }
        begin.append(word, sizeof(word));
    } while (begin.size() < 8 && (begins_with(SEQ_MAGIC) || begins_with(SEQ_OLD)));

    ggufrope_tag found;
    if (begin.size() == 8 && begins_with(SEQ_MAGIC)) {
        found.is_set = true;
        io.read(&found.hash, sizeof(found.hash));
        found.text = ggufrope_printable(read_string(io, ggufrope_tag::MAX_TEXT, "a text"));
        begin.clear();
    } else if (begin.size() == 8 && begins_with(SEQ_OLD)) {
        found.text = "those of an older ggufrope";
        found.is_set = true;
    }
    check_tag(found);
    if (found.is_set) {
        read_rows(io);
    }
    return std::make_unique<io_read_rest>(io, begin);
}
