"""The patched runtime, asked: greedy answers, likelihoods, log-probabilities; each token is read as rarely as possible.

==================  ===============================================================================
``engine``          a file, to be asked many questions; ``requests``: questions and answers
``opening``         a loaded model, with contexts of whatever size a job needs
``context``         a context of llama.cpp with several sequences: tokens in, rows of logits out
``prefixes``        which prompts begin alike; ``decoder``: many of them side by side
``stream``          an answer while it is decoded, drafts included; ``writer``: its text
``likelihood``      a continuation whose tokens are given
``margin``          which choices are too close to call in another batch
``vocabulary``      text to tokens and back; ``chat_template``: the model's own template
``strict``          log-probabilities in the most exact setting that llama.cpp has
==================  ===============================================================================

The bindings are loaded when an engine is opened, not before.
"""
