"""The patched runtime, asked: log-probabilities, likelihoods, greedy answers; each token is read as rarely as possible.

==================  ===============================================================================
``session``         a file, opened once, and its log-probabilities; ``open_strict``: most exactly
``engine``          a session to be asked many questions; ``requests``: questions and answers
``opening``         a loaded model, with contexts of whatever size a job needs
``kv_types``        types of cached K and V, and when flash attention is on
``context``         a context of llama.cpp with several sequences: tokens in, rows of logits out
``divergence``      logits to log-probabilities, and how far two predictions are apart
``prefixes``        which prompts begin alike; ``decoder``: many of them side by side
``stream``          an answer while it is decoded, drafts included; ``writer``: its text
``drafting``        what an answer may go on with
``likelihood``      a continuation whose tokens are given
``margin``          which choices are too close to call in another batch
``vocabulary``      text to tokens and back; ``chat_template``: the model's own template
==================  ===============================================================================

The bindings are loaded when a session is opened, not before.
"""
