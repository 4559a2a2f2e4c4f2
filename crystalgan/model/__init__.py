"""The method of the paper on values alone: nothing here reads or writes a file.

Read `methods` first, where the four methods of Table II stand side by side, then `losses`, one
function for each equation. `networks` and `graph` are the generators and discriminators, `transfer`
the feature transfer between the steps, `pair_potential` and `pair_potential_fit` the energy term.
`stages` and `batches` draw what a stage trains on, `learning` is one epoch of it. `model` holds
what was learned, and samples new cells.

=================================  =============================================================
paper                              here
=================================  =============================================================
G_AHB, G_BHA                       `Networks.generators`, domains 0 and 1
D_AH, D_BH                         `Networks.discriminators`
x_AHB1, y_BHA1                     `Translated.new` of step 1
x_AHBg, y_BHAg                     `Model.transferred`
L_GAN, L_R, L_geo1, L_geo2         the terms `adversarial`, `reconstruction`, `geo1`, `geo2`
=================================  =============================================================
"""
