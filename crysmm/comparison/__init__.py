"""Paired comparison of runs on the same test crystals.

``compare`` trains several ways (arms) on one split of the user's data, for ``crysmm compare``; ``overview`` and
``runs_page`` list and compare the runs that are in a folder, for ``crysmm runs``.
"""
