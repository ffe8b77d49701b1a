// A program that was made for version 2 of ggufrope.h, and only knows that. It prints what each function answers.

#include "ggufrope_v2.h"

#include <stdio.h>
#include <stdlib.h>

static void check(int ok, const char * what) {
    printf("%s %s: %s\n", ok ? "yes" : "no", what, ok ? "" : ggufrope_last_error());
}

static void read_tokens(struct llama_context * ctx, int n) {
    llama_token tokens[64];
    for (int i = 0; i < n; ++i) {
        tokens[i] = 3 + (i*7) % 50;
    }
    if (llama_decode(ctx, llama_batch_get_one(tokens, n)) != 0) {
        printf("llama_decode failed\n");
        exit(1);
    }
}

int main(int argc, char ** argv) {
    (void) argc;
    printf("made for %d, runs on %u\n", GGUFROPE_API_VERSION, ggufrope_api_version());
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 256;
    struct llama_context * ctx = llama_init_from_model(model, params);
    const size_t n = ggufrope_n_head_factors(model), n_scores = ggufrope_n_scores(model);
    float * factors = calloc(n, sizeof(float)), * scores = calloc(n_scores, sizeof(float));

    printf("method %s, %zu factors, %zu scores, %zu rows", ggufrope_method(model), n, n_scores, ggufrope_n_length_rows(model));
    for (size_t i = 0; i <= ggufrope_n_length_rows(model); ++i) {
        printf(" %u", ggufrope_length_point(model, i));
    }
    printf("\n");

    check(ggufrope_get_head_factors(ctx, factors, n), "get");
    for (size_t i = 0; i < n; ++i) {
        printf("%g ", factors[i]);
        factors[i] = 1.0f + 0.125f*i;
    }
    printf("\n");
    check(ggufrope_set_head_factors(ctx, factors, n - 1), "set too few");
    check(ggufrope_set_head_factors(ctx, factors, n), "set");
    check(ggufrope_get_head_factors(ctx, factors, n), "get");
    printf("%g %g\n", factors[0], factors[n - 1]);
    check(ggufrope_capture_scores(ctx, true), "capture");
    ggufrope_set_length_hint(ctx, 100);
    printf("row %u\n", ggufrope_get_length_row(ctx));
    read_tokens(ctx, 40);
    printf("row %u\n", ggufrope_get_length_row(ctx));
    check(ggufrope_get_scores(ctx, scores, n_scores), "scores");
    printf("%g\n", scores[n_scores - 1]);
    check(ggufrope_set_head_factors(ctx, factors, n), "set with tokens in memory");
    check(ggufrope_set_length_row(ctx, 9), "a row that is none");
    check(ggufrope_set_length_row(ctx, 2), "row 2");
    read_tokens(ctx, 1);
    printf("row %u\n", ggufrope_get_length_row(ctx));
    check(ggufrope_set_length_row(ctx, -1), "by length");
    llama_memory_clear(llama_get_memory(ctx), true);
    read_tokens(ctx, 10);
    printf("row %u\n", ggufrope_get_length_row(ctx));

    free(factors);
    free(scores);
    llama_free(ctx);
    llama_model_free(model);
    return 0;
}
