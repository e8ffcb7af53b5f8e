"""Models by others beside ours, through the door that everybody's own model takes: `peers.MODULE:build`.

One module a package, with the matched shape of `peers.frame.Shape` as its default. Where it can be, only the
mixing differs from ours: embedding, feed-forward network, norms, pooling and classifier are ours.
"""
