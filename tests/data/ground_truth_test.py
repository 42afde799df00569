"""The ground truth of a split against the records that were written."""

import numpy as np
import tiny

from ohem_tf.data.ground_truth import ground_truth
from ohem_tf.data.joined import open_split


def test_what_the_records_hold(tmp_path):
    members = [tiny.make_record(n, 64, 80, objects=n) for n in (2, 0, 3)]
    members[2].difficult[1] = members[2].crowd[2] = True
    members[2].area[0] = 12.5
    tiny.write_dataset(tmp_path, {"val": members})
    truth = ground_truth(open_split(tmp_path, "val", "split"))
    assert [image["image_id"] for image in truth] == ["000002", "000000", "000003"]
    for image, member in zip(truth, members, strict=True):
        for name in ("boxes", "classes", "difficult", "crowd", "area"):
            expected = getattr(member, name)
            assert image[name].dtype == expected.dtype
            np.testing.assert_array_equal(image[name], expected)
    (image,) = ground_truth(open_split(tmp_path, "val[1:2]", "split"))
    assert (image["image_id"], image["boxes"].shape) == ("000000", (0, 4))
