// Loads one file and does to it what programs do; run by scripts/check-sanitizers, which looks at what is reported.
//
//     driver FILE    0: it loads, and everything below was done; 1: the model, 2: a context of it was refused
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "llama.h"

#ifdef PATCHED
#include "ggufrope.h"
#else
static const char * ggufrope_last_error() { return ""; }
#endif

namespace {

void must(bool good, const char * what) {
    if (!good) {
        std::fprintf(stderr, "%s failed\n", what);
        std::exit(3);
    }
}

// decodes n tokens of sequence 0 from position pos on
void decode(llama_context * ctx, int n, int pos) {
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    llama_batch batch = llama_batch_init(n, 0, 1);
    batch.n_tokens = n;
    for (int i = 0; i < n; i++) {
        batch.token[i] = (pos + 7*i) % n_vocab;
        batch.pos[i] = pos + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = i == n - 1;
    }
    must(llama_decode(ctx, batch) == 0, "llama_decode");
    llama_batch_free(batch);
    volatile float last = llama_get_logits(ctx)[n_vocab - 1];
    (void) last;
}

llama_context * open(llama_model * model, ggml_type type_k) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = 256;
    params.n_threads = params.n_threads_batch = 2;
    params.type_k = type_k;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    return llama_init_from_model(model, params);
}

void head_factors(llama_model * model, llama_context * ctx) {
#ifdef PATCHED
    std::vector<float> factors(ggufrope_n_head_factors(model));
    must(ggufrope_get_head_factors(ctx, factors.data(), factors.size()), "ggufrope_get_head_factors");
    for (float & factor : factors) {
        factor += 0.25f;
    }
    must(ggufrope_set_head_factors(ctx, factors.data(), factors.size()), "ggufrope_set_head_factors");
    must(!ggufrope_set_head_factors(ctx, factors.data(), factors.size() - 1), "a refusal");
#else
    (void) model;
    (void) ctx;
#endif
}

void use(llama_model * model, ggml_type type_k, llama_context * ctx) {
    llama_memory_t memory = llama_get_memory(ctx);
    decode(ctx, 100, 100);
    int next = 200;
    if (llama_memory_can_shift(memory)) {  // not half-rotated heads in a quantized cache
        llama_memory_seq_add(memory, 0, -1, -1, -100);
        decode(ctx, 10, 100);
        next = 110;
    }
    std::vector<uint8_t> whole(llama_state_get_size(ctx));
    must(llama_state_get_data(ctx, whole.data(), whole.size()) != 0, "llama_state_get_data");
    std::vector<uint8_t> sequence(llama_state_seq_get_size(ctx, 0));
    must(llama_state_seq_get_data(ctx, sequence.data(), sequence.size(), 0) != 0, "llama_state_seq_get_data");

    llama_context * other = open(model, type_k);
    must(llama_state_set_data(other, whole.data(), whole.size()) != 0, "llama_state_set_data");
    decode(other, 1, next);
    llama_memory_clear(llama_get_memory(other), true);
    must(llama_state_seq_set_data(other, sequence.data(), sequence.size(), 0) != 0, "llama_state_seq_set_data");
    decode(other, 1, next);
    llama_memory_clear(llama_get_memory(other), true);
    head_factors(model, other);
    decode(other, 5, 0);
    for (size_t cut : { size_t(1), sequence.size()/2, sequence.size() - 1 }) {  // a state that was cut off
        llama_memory_clear(llama_get_memory(other), true);
        llama_state_seq_set_data(other, sequence.data(), cut, 0);
    }
    llama_free(other);
}

}  // namespace

int main(int argc, char ** argv) {
    must(argc == 2, "usage: driver FILE;");
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        std::fprintf(stderr, "refused: %s\n", ggufrope_last_error());
        return 1;
    }
    int code = 0;
    for (ggml_type type_k : { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0 }) {
        if (llama_context * ctx = open(model, type_k)) {
            use(model, type_k, ctx);
            llama_free(ctx);
        } else {
            std::fprintf(stderr, "refused: %s\n", ggufrope_last_error());
            code = 2;
        }
    }
    llama_model_free(model);
    llama_backend_free();
    return code;
}
