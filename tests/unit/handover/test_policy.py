"""Who may do what in a hand-over bucket."""

import pytest

from pipeline.errors import ConfigError
from pipeline.handover.policy import bucket_policy
from pipeline.model.farm import FarmConfig

FARM = FarmConfig.model_validate(
    {
        "workers": {
            "signer": {"role": "signer", "memory": 1},
            "one": {"memory": 8},
            "two": {"memory": 8},
        }
    }
)


def writers(policy: dict[str, object]) -> dict[str, list[str]]:
    """Return where each user may put something."""
    found: dict[str, list[str]] = {}
    statements = policy["Statement"]
    assert isinstance(statements, list)
    for statement in statements:
        if "s3:PutObject" in statement["Action"]:
            for user in statement["Principal"]["AWS"]:
                found.setdefault(user, []).extend(statement["Resource"])
    return found


def test_a_worker_writes_to_its_own_place_only() -> None:
    policy = bucket_policy(FARM, "s3://builds/farm", "arn:aws:iam::1:user/{}")

    assert writers(policy) == {
        "arn:aws:iam::1:user/signer": ["arn:aws:s3:::builds/farm/*"],
        "arn:aws:iam::1:user/one": ["arn:aws:s3:::builds/farm/workers/one/*"],
        "arn:aws:iam::1:user/two": ["arn:aws:s3:::builds/farm/workers/two/*"],
    }


def test_a_bucket_without_a_prefix_is_the_farms_alone() -> None:
    policy = bucket_policy(FARM, "s3://builds", "u/{}")

    assert writers(policy)["u/one"] == ["arn:aws:s3:::builds/workers/one/*"]


def test_nobody_may_take_anything_away() -> None:
    policy = bucket_policy(FARM, "s3://builds", "u/{}")

    assert "Delete" not in str(policy)


@pytest.mark.parametrize(
    ("store", "principal", "said"),
    [("handover", "{}", "a policy is for a bucket"), ("s3://builds", "me", "has no {} for")],
)
def test_what_makes_no_policy_is_told(store: str, principal: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        bucket_policy(FARM, store, principal)
