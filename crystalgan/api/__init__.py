"""What a notebook holds in its hand: `Run` with its methods, and the long functions with a bar.

`run` has the run and what trains, makes, relaxes; `studies` has what compares many runs. Each is a
few lines over a function of the packages below, which takes a function as `progress` where these
take `True` too. All of it is exported by `crystalgan`, whose list `EXPORTED` says what comes from
where.
"""
