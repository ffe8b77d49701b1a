"""From a request to a converted file: what is asked for, what changes, what a person should know, and the writing."""
