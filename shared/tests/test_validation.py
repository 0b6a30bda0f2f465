"""What is wrong with what a person wrote, told in that person's words."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agorai_shared.validation import first_fault


class Round(BaseModel):
    shape: Literal["round"]
    radius: float = Field(gt=0, le=10, allow_inf_nan=False)


class Square(BaseModel):
    shape: Literal["square"]
    side: float


class Written(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field("flowers", min_length=1, max_length=8, pattern="^[a-z]*$")
    mode: Literal["open", "dai"] = "open"
    count: int = Field(1, ge=1, lt=9)
    exact: bool = True
    columns: tuple[str, ...] = Field(("a",), min_length=1, max_length=2)
    more: dict[str, int] = {}
    form: Annotated[Round | Square, Field(discriminator="shape")] = Square(shape="square", side=1)

    @field_validator("name")
    @classmethod
    def _is_no_rose(cls, name: str) -> str:
        if name == "rose":
            raise ValueError("a rose is a rose")
        return name

    @model_validator(mode="after")
    def _is_exact(self) -> Written:
        if not self.exact:
            raise ValueError("nothing is exact")
        return self


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"colour": 1}, "colour: there is no such member"),
        ({"name": 7}, "name: it is 7, and must be text, in quotes"),
        ({"name": ""}, "name: it has fewer than 1 characters"),
        ({"name": "chrysanthemum"}, "name: it has more than 8 characters"),
        ({"name": "A"}, "name: 'A' is not of its form"),
        ({"name": "rose"}, "name: a rose is a rose"),
        ({"mode": "secret"}, "mode: it is 'secret'; take 'open' or 'dai'"),
        ({"mode": None}, "mode: it is null; take 'open' or 'dai'"),
        ({"mode": "m" * 99}, f"mode: it is '{'m' * 59}...; take 'open' or 'dai'"),
        ({"count": 0}, "count: it is 0, and must be 1 at least"),
        ({"count": 9}, "count: it is 9, and must be less than 9"),
        ({"count": "many"}, "count: it is 'many', and must be a whole number"),
        ({"count": 1.5}, "count: it is 1.5, and must be a whole number"),
        ({"count": []}, "count: it is something else, and must be a whole number"),
        ({"exact": 7}, "exact: it is 7, and must be true or false"),
        ({"exact": False}, "nothing is exact"),
        ({"columns": "a"}, "columns: it must be a list, in [ ]"),
        ({"columns": []}, "columns: it has 0, and needs 1 at least"),
        ({"columns": ["a"] * 3}, "columns: it has more than 2"),
        ({"more": []}, "more: it must be an object, in { }"),
        ({"form": {}}, "form: it has no 'shape', which says of what kind it is"),
        ({"form": {"shape": "egg"}}, "form: 'shape' is 'egg'; take 'round', 'square'"),
        ({"form": {"shape": "round"}}, "form.round.radius: it is missing"),
        ({"form": {"shape": "round", "radius": 0}}, "form.round.radius: it is 0, and must be more than 0"),
        ({"form": {"shape": "round", "radius": 11}}, "form.round.radius: it is 11, and must be 10 at most"),
        ({"form": {"shape": "round", "radius": "x"}}, "form.round.radius: it is 'x', and must be a number"),
        ({"form": 3}, "form: it must be an object, in { }"),
        ([], "it must be an object, in { }"),
    ],
)
def test_what_is_wrong_is_told_in_words_of_whoever_wrote_it(given: Any, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Written.model_validate_json(json.dumps(given))
    assert first_fault(refused.value) == told


def test_what_is_no_json_is_told_so_and_where() -> None:
    with pytest.raises(ValidationError) as refused:
        Written.model_validate_json('{"name": ')
    assert first_fault(refused.value) == "it is no JSON (EOF while parsing a value at line 1 column 9)"


def test_a_fault_without_words_of_its_own_is_no_secret_of_the_library() -> None:
    class When(BaseModel):
        at: bytes = Field(max_length=2)

    with pytest.raises(ValidationError) as refused:
        When.model_validate_json('{"at": "abc"}')
    assert first_fault(refused.value) == "at: it is not of its form"
