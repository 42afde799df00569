"""Networks: backbones, RoI heads, and the detector that trains them."""
