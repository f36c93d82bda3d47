"""Who proposes what a decoder may write next: a smaller model of the same vocabulary, or what stands there already."""

from __future__ import annotations

from pathlib import Path

from polyhead.errors import ArgumentError
from polyhead.generation.speculative import Draft, Lookup, Proposer
from polyhead.tasks.decoder import DecoderStep, grows
from polyhead.tasks.load import Loaded, ready
from polyhead.tasks.needs import able


def proposer(loaded: Loaded, draft: str | Path | Loaded | Lookup | None) -> Proposer | None:
    """The one who proposes to a loaded decoder; a draft's name is loaded onto its device. Raises ArgumentError for a
    draft that cannot propose to it, CheckpointError for what cannot be loaded."""
    if draft is None:
        return None
    if grows(loaded.config):
        raise ArgumentError(
            f"{loaded.folder or 'The model'} turns its keys by how long a text has become, so that several tokens read"
            " at once are not read as one by one; leave out the draft or the lookup."
        )
    if isinstance(draft, Lookup):
        return draft
    draft = ready(draft, str(loaded.device), None if isinstance(draft, Loaded) else loaded.precision)
    able(draft, "complete", told="draft")
    theirs, ours = (each.tokenizer.inner.get_vocab(with_added_tokens=True) for each in (draft, loaded))
    if theirs != ours:
        shared = sum(ours.get(token) == id for token, id in theirs.items())
        raise ArgumentError(
            f"The draft {draft.folder or ''} must have the model's vocabulary of {len(ours)} tokens, but of its own"
            f" {len(theirs)} only {shared} have the same number there; take a smaller model of the same family."
        )
    step = DecoderStep(draft.packed)
    sizes = [sum(each.numel() for each in one.model.parameters()) for one in (draft, loaded)]
    return Draft(step, words=int(loaded.config.words), places=int(draft.config.max_len), cost=sizes[0] / sizes[1])
