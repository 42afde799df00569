"""A training step of Fast R-CNN with VGG16 in PyTorch, as its users write it.

    python3 benchmarks/peers/pytorch_step.py STEP.npz

`benchmarks.peers.compare` starts it under a Python that has PyTorch and torchvision, and talks to
it over stdin and stdout: it answers "ready VERSION" when the model stands, then does one step for
each line with the name of a method, and answers with its loss. It imports nothing of this project.

STEP.npz has what the step is done on (images [N, H, W, 3] RGB, proposals [N, R, 4] and gt_boxes
[N, G, 4] as [ymin, xmin, ymax, xmax] in pixels of the images, gt_classes [N, G]) and what it is
(num_classes, rois_per_image, hidden [2], dropout, threads). On a GPU, if it sees one, the model and
the batch live there, and float32 products round their factors to TF32, as TensorFlow's do.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from torch.nn import functional

_DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_FG_FRACTION, _FG_IOU = 0.25, 0.5
_STD = torch.tensor([0.1, 0.1, 0.2, 0.2], device=_DEVICE)  # of the regression targets
_PIXEL_MEANS = torch.tensor([103.939, 116.779, 123.68], device=_DEVICE)  # BGR


class Model(torch.nn.Module):
    """VGG16 up to conv5_3, the first four layers frozen; fc6, fc7 and two outputs."""

    def __init__(self, num_classes: int, hidden: list[int], dropout: float) -> None:
        super().__init__()
        self.features = torchvision.models.vgg16(weights=None).features[:30]
        for layer in self.features[:10]:  # up to pool2
            layer.requires_grad_(False)
        self.fc6 = torch.nn.Linear(7 * 7 * 512, hidden[0])
        self.fc7 = torch.nn.Linear(hidden[0], hidden[1])
        self.cls_score = torch.nn.Linear(hidden[1], num_classes + 1)
        self.bbox_pred = torch.nn.Linear(hidden[1], 4 * (num_classes + 1))
        self.dropout = dropout

    def head(self, features: torch.Tensor, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and deltas of RoIs [R, 5]: index of the image, and x1, y1, x2, y2 in pixels."""
        pooled = torchvision.ops.roi_pool(features, rois, 7, 1 / 16).flatten(1)
        x = functional.dropout(functional.relu(self.fc6(pooled)), self.dropout)
        x = functional.dropout(functional.relu(self.fc7(x)), self.dropout)
        return self.cls_score(x), self.bbox_pred(x)


class RoIs(NamedTuple):
    """RoIs of one image, matched to its ground truth."""

    rois: torch.Tensor  # [R, 5]
    labels: torch.Tensor  # [R], 0: background
    targets: torch.Tensor  # [R, 4]


def encode(boxes: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    """Regression targets [R, 4] from boxes to their ground truth, both x1, y1, x2, y2."""
    size, gt_size = boxes[:, 2:] - boxes[:, :2] + 1, gt[:, 2:] - gt[:, :2] + 1
    centre, gt_centre = boxes[:, :2] + size / 2, gt[:, :2] + gt_size / 2
    return torch.cat([(gt_centre - centre) / size, torch.log(gt_size / size)], dim=1) / _STD


def match(proposals: torch.Tensor, gt: torch.Tensor, classes: torch.Tensor, image: int) -> RoIs:
    """Ground truth and proposals of an image as RoIs with labels and targets."""
    boxes = torch.cat([gt, proposals])
    iou, index = torchvision.ops.box_iou(boxes, gt).max(dim=1)
    labels = torch.where(iou >= _FG_IOU, classes[index], torch.zeros_like(index))
    rois = torch.cat([boxes.new_full((len(boxes), 1), float(image)), boxes], dim=1)
    return RoIs(rois, labels, encode(boxes, gt[index]))


def random_rois(matched: RoIs, count: int) -> torch.Tensor:
    """The baseline: at most a quarter foreground, at random."""
    fg = torch.nonzero(matched.labels > 0)[:, 0]
    bg = torch.nonzero(matched.labels == 0)[:, 0]
    fg = fg[torch.randperm(len(fg), device=_DEVICE)[: int(_FG_FRACTION * count)]]
    return torch.cat([fg, bg[torch.randperm(len(bg), device=_DEVICE)[: count - len(fg)]]])


@torch.no_grad()
def hardest(
    model: Model, features: torch.Tensor, matched: RoIs, among: torch.Tensor, count: int
) -> torch.Tensor:
    """`count` of the RoIs `among` by their classification loss, all if there are no more."""
    if len(among) <= count:
        return among
    logits, _ = model.head(features, matched.rois[among])
    losses = functional.cross_entropy(logits, matched.labels[among], reduction="none")
    return among[losses.topk(count).indices]


def hard_rois(model: Model, features: torch.Tensor, matched: RoIs, count: int) -> torch.Tensor:
    """As MMDetection's OHEM: foreground and background apart, the highest losses, without NMS."""
    fg = torch.nonzero(matched.labels > 0)[:, 0]
    bg = torch.nonzero(matched.labels == 0)[:, 0]
    fg = hardest(model, features, matched, fg, int(_FG_FRACTION * count))
    return torch.cat([fg, hardest(model, features, matched, bg, count - len(fg))])


def loss_of(logits: torch.Tensor, deltas: torch.Tensor, chosen: RoIs) -> torch.Tensor:
    """Classification loss and smooth L1 of the foreground's own class, means over the RoIs."""
    cls = functional.cross_entropy(logits, chosen.labels)
    fg = torch.nonzero(chosen.labels > 0)[:, 0]
    own = deltas.view(len(deltas), -1, 4)[fg, chosen.labels[fg]]
    box = functional.smooth_l1_loss(own, chosen.targets[fg], reduction="sum")
    return cls + box / len(deltas)


class Step:
    """A training step, by either method, on the same batch each time."""

    def __init__(self, batch: dict[str, np.ndarray]) -> None:
        torch.manual_seed(0)
        self.count = int(batch["rois_per_image"])
        self.images, self.proposals, self.gt_boxes, self.gt_classes = (
            torch.from_numpy(batch[name]).to(_DEVICE)
            for name in ("images", "proposals", "gt_boxes", "gt_classes")
        )
        hidden = batch["hidden"].tolist()
        self.model = Model(int(batch["num_classes"]), hidden, float(batch["dropout"])).to(_DEVICE)
        weights = [p for p in self.model.parameters() if p.requires_grad]
        # At a rate of almost 0: every step meets the same weights.
        self.optimizer = torch.optim.SGD(weights, lr=1e-12, momentum=0.9, weight_decay=5e-4)

    def __call__(self, method: str) -> float:
        """One step; method: "FRCN" or "OHEM"."""
        # From a batch in the device's memory on, as a data loader would hand it over.
        features = self.model.features(
            (self.images.flip(-1) - _PIXEL_MEANS).permute(0, 3, 1, 2).contiguous()
        )
        chosen = []
        for i in range(len(self.images)):
            proposals, gt = (x[i][:, [1, 0, 3, 2]] for x in (self.proposals, self.gt_boxes))
            matched = match(proposals, gt, self.gt_classes[i].long(), i)
            if method == "OHEM":
                selected = hard_rois(self.model, features, matched, self.count)
            else:
                selected = random_rois(matched, self.count)
            chosen.append(RoIs(*(x[selected] for x in matched)))
        together = RoIs(*(torch.cat(parts) for parts in zip(*chosen, strict=True)))
        loss = loss_of(*self.model.head(features, together.rois), together)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def main() -> None:
    """Waits for names of methods."""
    batch = dict(np.load(sys.argv[1]))
    torch.set_num_threads(int(batch["threads"]))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True  # images of one size
    step = Step(batch)
    print(f"ready {torch.__version__}", flush=True)
    for line in sys.stdin:
        print(step(line.strip()), flush=True)


if __name__ == "__main__":
    main()
