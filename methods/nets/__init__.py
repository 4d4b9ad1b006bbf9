"""Networks that several methods share: 2D backbones, soft-argmax, losses on heat maps and key points."""
