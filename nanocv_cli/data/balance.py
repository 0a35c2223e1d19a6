"""Classes that have a thousand times the images of others: how often an epoch draws each image. No torch.

An image is drawn in proportion to n^-b, where n is the number of images of the rarest class that it shows, and b is
`train.balance`. A class of n images then has a share of the epoch that grows as n^(1-b): with 0 as it is, with 1/2 as
the square root, with 1 each class alike (Kang et al., "Decoupling representation and classifier for long-tailed
recognition", arXiv:1910.09217; for images of several classes as repeat factors do, Gupta et al., LVIS,
arXiv:1908.03195). A sampler serves every task whose labels name classes, streams and caches, and any number of
processes; weights of the loss would need each task's own loss, and let one rare image push a whole batch.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.data.labels.base import Label
from nanocv_cli.errors import RequestError

# Between the most and the least frequent class: from here on `data check` speaks of it.
UNBALANCED = 100


def image_weights(labels: Sequence[Label], balance: float) -> NDArray[np.float64] | None:
    """How much more often each image is drawn than one of a class that has a single image.

    Args:
        labels: of the images.
        balance: the exponent b, 0..1.

    Returns:
        float64 [n], up to 1; None where all are drawn alike.

    Raises:
        RequestError: labels would have to be opened one by one to be counted.
    """
    if not balance:
        return None
    if labels and labels[0].is_opened:
        raise RequestError(
            f"train.balance counts the images of each class, but {labels[0].plural} show many classes each",
            "leave it at 0",
        )
    # Images of a class may share a label: each one is asked once.
    known = {id(label): label for label in labels}
    classes = {key: label.classes() for key, label in known.items()}
    counts = Counter(number for label in labels for number in classes[id(label)])
    most = max(counts.values(), default=1)
    of_label = {key: min((counts[number] for number in found), default=most) for key, found in classes.items()}
    rarest = np.fromiter((of_label[id(label)] for label in labels), np.float64, len(labels))
    weights: NDArray[np.float64] = rarest**-balance
    return weights


def imbalance(labels: Sequence[Label], classes: Sequence[str]) -> str:
    """What there is to say of the counts of the classes; empty where none has `UNBALANCED` times another's."""
    counts = Counter(number for label in labels for number in label.classes())
    if not counts:
        return ""
    (most, many), *_, (least, few) = [*counts.most_common(), counts.most_common()[-1]]
    if many < UNBALANCED * few:
        return ""
    return (
        f"class {classes[most]} has {many // few:,} times the images of class {classes[least]} ({many:,} to {few:,}): "
        "train.balance=0.5 draws rare classes more often, 1 all alike"
    )
