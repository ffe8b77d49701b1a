// Prints where each layer begins in the arrays of factors and scores.

#include "ggufrope.h"

#include <stdio.h>

int main(int argc, char ** argv) {
    (void) argc;
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    const uint32_t n = ggufrope_n_layers(model);
    printf("%u %zu %zu\n", n, ggufrope_n_head_factors(model), ggufrope_n_scores(model));
    for (uint32_t il = 0; il < n + 2; ++il) {
        printf("%zu %zu\n", ggufrope_head_factors_offset(model, il), ggufrope_scores_offset(model, il));
    }
    llama_model_free(model);
    return 0;
}
