"""Arms as written on a command line or in a file, and the settings they give."""

import json

import pytest

from crysmm.comparison.arms import BUILT_IN, parse_arms, read_arms
from crysmm.errors import InputError


def settings(text, base=None):
    """Return the settings of a run of one arm."""
    return parse_arms([text])[0].config(base or {})


def test_built_in_arms_change_what_their_name_says():
    assert settings("plain") == settings("cgcnn")
    assert [settings(name).model.name for name in ("gatgnn", "alignn", "crysxpp")] == ["gatgnn", "alignn", "crysxpp"]
    assert str(settings("pretrained").init_from) == "decoys-mp"
    assert (settings("distilled").head.teacher, settings("distilled").head.delta) == ("decoys-mp", ("rising",))
    assert settings("text").head.name == "multimodal"
    assert not parse_arms(["constant"])[0].is_trained


def test_defaults_follow_the_backbone_of_the_arm():
    base = {"model": {"name": "cgcnn", "conv_layers": 2}, "epochs": 7}
    plain, other = settings("plain", base), settings("alignn", base)
    assert (plain.model.conv_layers, plain.learning_rate, plain.neighbor_strategy) == (2, 4e-3, "cgcnn")
    assert (other.learning_rate, other.neighbor_strategy) == (1e-3, "k-nearest")
    assert (plain.epochs, other.epochs) == (7, 7)


def test_settings_of_an_arm():
    arm = settings("wide:model.node_features=128,head=distilled,head.teacher=runs/encoder,head.delta=0.1,0.5")
    assert (arm.model.name, arm.model.node_features) == ("cgcnn", 128)
    assert (arm.head.teacher, arm.head.delta) == ("runs/encoder", (0.1, 0.5))
    assert settings("steps:scheduler=multistep,milestones=5").milestones == (5,)
    assert settings("steps:milestones=5,8,scheduler=multistep").milestones == (5, 8)
    assert settings("distilled:head.delta=0.3").head.teacher == "decoys-mp"
    assert parse_arms(["mine:zero_shot=runs/old"])[0].zero_shot == "runs/old"


def test_arms_from_a_file(tmp_path):
    content = {"plain": {}, "wide": {"model": {"node_features": 128}}, "flat": {"model.node_features": 128}}
    path = tmp_path / "arms.json"
    path.write_text(json.dumps(content))
    plain, wide, flat = (arm.config({}) for arm in parse_arms(read_arms(path)))
    assert wide == flat
    assert (plain.model.node_features, wide.model.node_features) == (64, 128)
    with pytest.raises(InputError, match=r"--arms_file: .*cannot be read"):
        read_arms(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (["distiled"], "unknown arm distiled; did you mean distilled?"),
        (["plain", "wide:model.node_feature=8"], "did you mean model.node_features?"),
        (["plain", "x:epoch=8"], "did you mean epochs?"),
        (["x:root_dir=there"], "sets root_dir, which is the same for all arms"),
        (["x:model.classification=true"], "sets model.classification, which is the same"),
        (["x:n_train=8"], "sets n_train, which is the same for all arms"),
        (["plain", "Plain:epochs=3"], "Plain is given twice"),
        (["long:epochs=3,batch_size=8,epochs=4"], "long sets epochs twice; keep one"),
        (["wide:model=alignn,model.name=cgcnn"], "wide sets model.name twice; keep one"),
        (["../x:epochs=3"], "cannot name an arm"),
        (["x:epochs"], "expected NAME, or NAME:KEY=VALUE"),
        (["x:epochs=many"], "arm x: --epochs: expected a whole number, got 'many'"),
        (["constant:epochs=3"], "has no settings"),
        (["x:zero_shot=model,epochs=3"], "used without training"),
        (["plain:zero_shot=model"], "under a name of its own"),
        ([], "none given"),
    ],
)
def test_arms_that_are_refused(arms, message):
    with pytest.raises(InputError) as caught:
        [arm.config({}) for arm in parse_arms(arms)]
    assert message in str(caught.value)


def test_every_built_in_arm_is_valid():
    for arm in parse_arms(BUILT_IN):
        arm.config({})
