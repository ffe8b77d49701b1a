/* Stands in for the function of libllama that rotates cached keys anew, and does nothing. */
#include <stddef.h>

size_t no_rerotation(void) __asm__(
    "_Z17ggufrope_rerotateR13llama_contextRK14llama_kv_cacheRKSt3mapIj17ggufrope_rotationSt4lessIjESaISt4pairIKjS5_EEE"
    "RKSt8functionIFbRK14llama_kv_cellsjEE");

size_t no_rerotation(void) { return 0; }
