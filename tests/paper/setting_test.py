"""How a run is described: its label, and what of it is not as in the recipe of its data."""

from paper_runs import describe, voc07

from ohem_tf.paper import recipes


def test_labels():
    cases = [
        (voc07(), "OHEM N=2 VGG16 07"),
        (voc07(recipes.frcn), "FRCN N=2 VGG16 07"),
        (voc07(recipes.vggm, recipes.one_image), "OHEM N=1 VGGM 07"),
        (voc07(lambda c: recipes.all_rois(c, 0.003)), "FRCN N=2 B=2048 bg_lo=0 VGG16 07"),
        (voc07(recipes.multi_scale_testing), "OHEM N=2 VGG16 07 test-M"),
        (voc07(recipes.iterative_regression), "OHEM N=2 VGG16 07 test-B"),
        (
            voc07(
                recipes.multi_scale_training,
                recipes.multi_scale_testing,
                recipes.iterative_regression,
                **{"data.train_split": "trainval+voc12/trainval"},
            ),
            "OHEM N=2 VGG16 07+12 M B",
        ),
        (voc07(recipes.release), "OHEM per label N=2 VGG16 07"),
        (voc07(**{"ohem.masked_backward": True}), "OHEM masked N=2 VGG16 07"),
        (voc07(recipes.METHODS["iou_balanced"].change), "IoU-balanced N=2 VGG16 07"),
        (voc07(recipes.METHODS["isr"].change), "ISR N=2 VGG16 07"),
        (voc07(recipes.hed_backbone), "OHEM N=2 VGG16 (hed) 07"),
        (voc07(**{"detection.nms": "linear"}), "OHEM N=2 VGG16 07 test-linear soft-NMS"),
        (voc07(**{"detection.rounds": 3}), "OHEM N=2 VGG16 07 test-3 rounds"),
        (voc07(**{"detection.flip": True}), "OHEM N=2 VGG16 07 test-flip"),
        (voc07(**{"data.dir": "/private/mine"}), "OHEM N=2 VGG16 mine/trainval"),
        (voc07(**{"backbone.name": "/private/lite0"}), "OHEM N=2 lite0 07"),
    ]
    for config, label in cases:
        assert describe(config).label == label


def test_fields_of_a_sampler_that_did_not_train_are_no_change():
    unused = {"isr.bias": 0.5, "iou_balanced.bins": 5, "heuristic.fg_fraction": 0.5}
    assert describe(voc07(**unused)).changes == ()
    isr = recipes.METHODS["isr"].change
    assert describe(voc07(isr, **{"isr.bias": 0.5, "ohem.rank_by": "cls"})).changes == (
        "isr.bias=0.5",
    )
    cls = describe(voc07(recipes.METHODS["ohem_cls"].change)).changes
    assert cls == ("ohem.fg_fraction=0.25", "ohem.iou_threshold=1.0", "ohem.rank_by=cls")


def test_each_field_of_the_test_that_changes_ap_is_named():
    m, b = recipes.multi_scale_testing, recipes.iterative_regression
    cases = [  # what a field needs to have an effect, the field, a value that no row has
        ((), "score_threshold", 0.05),
        ((), "max_detections", 100),
        ((), "nms_iou", 0.5),
        ((m,), "scale_choice", "all"),
        ((b,), "rescore_threshold", 0.1),
        ((b,), "rescore_nms_iou", 0.9),
        ((b,), "rescore_max", 15),
        ((b,), "voting_iou", 0.7),
    ]
    for needs, name, value in cases:
        assert describe(voc07(*needs)).changes == ()
        changed = {f"detection.{name}": value}
        assert describe(voc07(*needs, **changed)).changes == (f"detection.{name}={value}",)
        if needs:
            assert describe(voc07(**changed)).changes == (), "it has no effect"
    soft = {"detection.nms": "gaussian", "detection.nms_iou": 0.9, "detection.soft_nms_sigma": 0.1}
    assert describe(voc07(**soft)).changes == ("detection.soft_nms_sigma=0.1",)
    assert describe(voc07(**{"detection.soft_nms_sigma": 0.1})).changes == ()
    named = {name for _, name, _ in cases} | {"soft_nms_sigma"}
    in_the_label = {"shortest_sides", "longest_side", "flip", "rounds", "nms", "voting"}
    assert named | in_the_label == set(voc07().detection)


def test_a_run_is_held_to_the_recipe_of_its_data():
    coco = {"data.dir": "records/coco", "data.train_split": "train2014"}
    assert describe(voc07(**coco)).changes == ("data.max_proposals=0",)
    assert describe(voc07(**coco, **{"data.max_proposals": 2000})).changes == ()
    mine = {"data.dir": "records/mine", "data.max_proposals": 2000}
    assert describe(voc07(**mine)).changes == ("data.max_proposals=2000",)
