"""Discovery: from two metals to a ranked list of ternary phases, in a loop under a CPU budget.

`system` is what is known of the elements before; `sources` propose cells of compositions that
`compositions` draws; `descent` relaxes them in rungs; `search` is the loop: it screens proposals by
one energy each and goes on with those that promise most.
"""
