// Reads a prompt in one batch of several ubatches and decodes tokens that a sampler in the graph draws. Prints what was
// counted and drawn. Arguments: the model, then head factors to set, if any.

#include "ggufrope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_PROMPT 150

static int n_seen; // products of the first layer's attention that the callback was shown

static bool see(struct ggml_tensor * t, bool ask, void * user_data) {
    (void) user_data;
    if (ask) {
        return strncmp(t->name, "kqv_out-0", 9) == 0;
    }
    n_seen += 1;
    return true;
}

static void decode(struct llama_context * ctx, int first, int n, llama_token token) {
    struct llama_batch batch = llama_batch_init(n, 0, 1);
    batch.n_tokens = n;
    for (int i = 0; i < n; ++i) {
        batch.token[i]     = n > 1 ? 3 + (i*i) % 50 : token;
        batch.pos[i]       = first + i;
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i]    = i == n - 1;
    }
    if (llama_decode(ctx, batch) != 0) {
        printf("llama_decode failed\n");
        exit(1);
    }
    llama_batch_free(batch);
}

int main(int argc, char ** argv) {
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    struct llama_sampler * chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, llama_sampler_init_dist(11));
    struct llama_sampler_seq_config config = { 0, chain };

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx      = 512;
    params.n_batch    = 256;
    params.n_ubatch   = 64;
    params.no_perf    = false;
    params.cb_eval    = see;
    params.samplers   = &config;
    params.n_samplers = 1;
    params.n_threads  = params.n_threads_batch = 1;
    struct llama_context * ctx = llama_init_from_model(model, params);

    const size_t n = ggufrope_n_head_factors(model);
    float * factors = calloc(n, sizeof(float));
    for (int i = 2; i < argc; ++i) {
        factors[i - 2] = atof(argv[i]);
    }
    if (argc > 2 && !ggufrope_set_head_factors(ctx, factors, n)) {
        return 1;
    }
    n_seen = 0;
    decode(ctx, 0, N_PROMPT, 0);
    llama_synchronize(ctx);
    struct llama_perf_context_data data = llama_perf_context(ctx);
    printf("%d %d %d %d\n", data.n_p_eval, data.n_eval, data.n_reused, n_seen);
    ggufrope_get_head_factors(ctx, factors, n);
    for (size_t i = 0; i < n; ++i) {
        printf("%.9g ", factors[i]);
    }
    printf("\n");
    llama_token token = llama_get_sampled_token_ith(ctx, -1);
    for (int i = 0; i < 24; ++i) {
        printf("%d ", token);
        decode(ctx, N_PROMPT + i, 1, token);
        token = llama_get_sampled_token_ith(ctx, -1);
    }
    llama_synchronize(ctx);
    data = llama_perf_context(ctx);
    printf("\n%d %d\n", data.n_p_eval, data.n_eval);

    free(factors);
    llama_free(ctx);
    llama_sampler_free(chain);
    llama_model_free(model);
    return 0;
}
