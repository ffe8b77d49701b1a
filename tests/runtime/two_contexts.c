// Contexts of one model in threads of their own: other length rows, other head factors, scores, states, K shifts. Prints
// for each round whether every context gave the logits that it gives when it runs alone.
//   two_contexts MODEL ROUNDS
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggufrope.h"
#include "llama.h"

enum { N_TASKS = 4, N_VOCAB = 64, N_STEPS = 48 };

struct task {
    struct llama_model * model;
    int   kind;
    bool  failed;
    float logits[N_STEPS*N_VOCAB];
};

static bool decode(struct llama_context * ctx, int first, int n) {
    llama_token tokens[256];
    for (int i = 0; i < n; i++) {
        tokens[i] = 3 + (7*(first + i)*(first + i) + 5*(first + i))%(N_VOCAB - 3);
    }
    return llama_decode(ctx, llama_batch_get_one(tokens, n)) == 0;
}

// each of the functions that change a context, in one kind or another
static bool prepare(struct llama_context * ctx, const struct llama_model * model, int kind, int * n_past) {
    const size_t n_factors = ggufrope_n_head_factors(model);
    float factors[64];
    if (kind == 1) { // other ratios, and scores of heads
        for (size_t i = 0; i < n_factors; i++) {
            factors[i] = 1.0f + 0.125f*(i%5);
        }
        if (!ggufrope_set_head_factors(ctx, factors, n_factors) || !ggufrope_capture_scores(ctx, true)) {
            return false;
        }
    }
    if (kind == 2) { // a row that is pinned
        ggufrope_set_length_row(ctx, 2);
    }
    *n_past = kind == 0 ? 40 : kind == 3 ? 120 : 50; // the rows of these lengths differ
    if (!decode(ctx, 0, *n_past)) {
        return false;
    }
    if (kind == 3) { // a K shift, and a state that goes out and in again
        llama_memory_t memory = llama_get_memory(ctx);
        llama_memory_seq_rm (memory, 0, 0, 20);
        llama_memory_seq_add(memory, 0, 20, -1, -20);
        *n_past -= 20;
        if (!decode(ctx, *n_past, 1)) {
            return false;
        }
        *n_past += 1;
        const size_t size = llama_state_get_size(ctx);
        uint8_t * state = malloc(size);
        const bool ok = llama_state_get_data(ctx, state, size) == size && llama_state_set_data(ctx, state, size) == size;
        free(state);
        return ok;
    }
    return true;
}

static void * run(void * argument) {
    struct task * task = argument;
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx     = 512;
    params.n_threads = params.n_threads_batch = 1;
    params.type_k    = params.type_v = GGML_TYPE_F32;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;

    struct llama_context * ctx = llama_init_from_model(task->model, params);
    int n_past = 0;
    task->failed = !ctx || !prepare(ctx, task->model, task->kind, &n_past);
    for (int i = 0; i < N_STEPS && !task->failed; i++) {
        task->failed = !decode(ctx, n_past + i, 1);
        memcpy(task->logits + i*N_VOCAB, llama_get_logits_ith(ctx, -1), sizeof(float)*N_VOCAB);
        if (task->kind == 1) {
            float scores[64];
            task->failed = task->failed || !ggufrope_get_scores(ctx, scores, ggufrope_n_scores(task->model));
        }
    }
    if (ctx) {
        llama_free(ctx);
    }
    return NULL;
}

static void quiet(enum ggml_log_level level, const char * text, void * user_data) {
    (void) user_data;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

int main(int argc, char ** argv) {
    if (argc != 3) {
        return 2;
    }
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        return 1;
    }
    static struct task alone[N_TASKS], together[N_TASKS];
    for (int k = 0; k < N_TASKS; k++) {
        alone[k] = (struct task) { .model = model, .kind = k };
        run(&alone[k]);
        if (alone[k].failed) {
            fprintf(stderr, "task %d: %s\n", k, ggufrope_last_error());
            return 1;
        }
        for (int j = 0; j < k; j++) {
            if (memcmp(alone[j].logits, alone[k].logits, sizeof(alone[k].logits)) == 0) {
                fprintf(stderr, "tasks %d and %d do the same\n", j, k);
                return 1;
            }
        }
    }
    for (int round = 0; round < atoi(argv[2]); round++) {
        pthread_t threads[N_TASKS];
        for (int k = 0; k < N_TASKS; k++) {
            together[k] = (struct task) { .model = model, .kind = k };
            if (pthread_create(&threads[k], NULL, run, &together[k]) != 0) {
                return 1;
            }
        }
        bool same = true;
        for (int k = 0; k < N_TASKS; k++) {
            pthread_join(threads[k], NULL);
            same = same && !together[k].failed && memcmp(alone[k].logits, together[k].logits, sizeof(alone[k].logits)) == 0;
        }
        printf("%s\n", same ? "same" : "DIFFERENT");
    }
    llama_model_free(model);
    return 0;
}
