"""Models by others beside ours, named by path as any model of the user's own: `peers.MODULE:build`.

One module per package, with the matched shape of `peers.frame.Shape` as its default. If possible, only the
mixing differs from ours: embedding, feed-forward network, norms, pooling and classifier are ours.
"""
