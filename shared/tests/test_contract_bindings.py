"""The generated bindings: what goes in comes out, and they are those of the contracts' source."""

from __future__ import annotations

import shutil
import subprocess
import sys
import timeit
from pathlib import Path

import orjson
import pytest
from eth_abi import abi as eth_abi
from hypothesis import given
from hypothesis import strategies as st

from agorai_shared.abi.errors import UnencodableError
from agorai_shared.bindings.invocation import Delivered, Invocation, Item, Paid, State
from agorai_shared.bindings.market_token import MarketToken, Transfer
from agorai_shared.bindings.registry import Actor, Kind, Registered, Registry, Resource, ResourceParams
from agorai_shared.bindings.role import Role
from agorai_shared.contract import ContractAbi
from agorai_shared.types import Address, Digest, InvocationId, ResourceId, Wei

ROOT = Path(__file__).resolve().parents[2]
ONE = Address("0x52908400098527886E0F7030069857D2E4169EE7")
TWO = Address("0xde709f2102306220921060314715629080e2fb77")
GRANT = bytes(range(32))

invocation = Invocation(ONE)
registry = Registry(TWO)

ITEM = "(address,address,uint96,uint64,uint40,uint40,uint40,uint32,bool,uint8,bytes32)"
PARAMS = "(uint8,uint96,uint64,uint40,uint32,uint32,bool,bytes32,bytes32)"


def log(kinds: list[str], values: list[object], indexed: int) -> tuple[list[str], str]:
    """Give the topics after the first, and the data, of a log with its indexed parameters in front."""
    topics = [
        "0x" + eth_abi.encode([k], [v]).hex() for k, v in zip(kinds[:indexed], values[:indexed], strict=True)
    ]
    return topics, "0x" + eth_abi.encode(kinds[indexed:], values[indexed:]).hex()


def test_a_call_carries_the_selector_and_the_arguments() -> None:
    call = invocation.pay(7, 10)

    assert call.to == ONE
    assert (call.contract, call.function) == ("Invocation", "pay")
    assert call.data.hex() == ContractAbi.load("Invocation").function("pay").selector.hex() + (
        eth_abi.encode(["uint64", "uint256"], [7, 10]).hex()
    )
    assert call.decode(eth_abi.encode(["uint64"], [3])) == 3


def test_calls_with_the_same_arguments_are_equal() -> None:
    assert invocation.pay(7, 10) == invocation.pay(7, 10)
    assert invocation.pay(7, 10) != invocation.pay(7, 11)


def test_a_function_without_output_gives_none() -> None:
    assert invocation.withdraw().decode(b"") is None


@given(
    price=st.integers(0, 2**96 - 1),
    times=st.tuples(*[st.integers(0, 2**40 - 1)] * 3),
    uses=st.integers(0, 2**32 - 1),
    state=st.sampled_from(State),
    grant=st.binary(min_size=32, max_size=32),
)
def test_an_item_comes_out_typed(
    price: int, times: tuple[int, int, int], uses: int, state: State, grant: bytes
) -> None:
    output = eth_abi.encode([ITEM], [(ONE, TWO, price, 5, *times, uses, uses > 0, state, grant)])

    assert invocation.item(1).decode(output) == Item(
        payer=ONE,
        owner=Address("0xde709f2102306220921060314715629080e2fb77"),
        price=Wei(price),
        resource=ResourceId(5),
        deadline=times[0],
        duration=times[1],
        expires_at=times[2],
        uses_left=uses,
        limited=uses > 0,
        state=state,
        grant=Digest(grant),
    )


def test_a_struct_goes_in_as_it_is_declared() -> None:
    params = ResourceParams(
        kind=Kind.MODEL,
        price=10,
        previous=0,
        duration=3600,
        uses=3,
        window=60,
        restricted=True,
        metadata=GRANT,
        commitment=GRANT[::-1],
    )
    call = registry.register(params)

    assert eth_abi.decode([PARAMS], call.data[4:]) == ((1, 10, 0, 3600, 3, 60, True, GRANT, GRANT[::-1]),)
    assert call.decode(eth_abi.encode(["uint64"], [1])) == ResourceId(1)


def test_an_array_goes_in() -> None:
    call = registry.allow(1, [ONE, TWO], allowed=True)

    assert eth_abi.decode(["uint64", "address[]", "bool"], call.data[4:]) == (
        1,
        (ONE.lower(), TWO.lower()),
        True,
    )


def test_a_resource_and_an_actor_come_out_typed() -> None:
    kinds = "(address,uint96,uint64,uint40,uint40,uint32,uint32,uint8,bool,bool,bytes32,bytes32)"
    values = (ONE, 10, 0, 1, 2, 3, 4, 1, False, True, GRANT, GRANT)
    resource = registry.resource(1).decode(eth_abi.encode([kinds], [values]))

    assert isinstance(resource, Resource)
    assert resource.owner == ONE
    assert resource.kind is Kind.MODEL
    assert resource.withdrawn
    assert resource.metadata == GRANT

    roles = Role.DATA_PROVIDER | Role.VOTER
    actor = registry.actor(ONE).decode(
        eth_abi.encode(["(uint16,uint40,bytes32,bytes32,string)"], [(roles, 1, GRANT, GRANT, "http://a")])
    )
    assert actor == Actor(
        roles=17, joined_at=1, profile=Digest(GRANT), encryption_key=Digest(GRANT), gateway="http://a"
    )
    assert Role(actor.roles) == Role.DATA_PROVIDER | Role.VOTER


def test_an_event_comes_out_of_a_log_and_out_of_its_json_form() -> None:
    kinds = ["uint64", "address", "address", "uint64", "bytes32", "uint40"]
    topics, data = log(kinds, [9, ONE, TWO, 5, GRANT, 77], indexed=3)
    args = Delivered.ABI.decode([Delivered.ABI.topic0, *topics], data)
    expected = Delivered(
        id=InvocationId(9), payer=ONE, owner=TWO, resource=ResourceId(5), grant=Digest(GRANT), expires_at=77
    )

    assert args["grant"] == "0x" + GRANT.hex()
    assert Delivered.ABI.key_name == "id"
    assert Delivered.from_args(args) == expected
    assert Delivered.from_args(orjson.loads(orjson.dumps(args))) == expected


def test_an_integer_beyond_64_bits_may_come_as_decimal_text() -> None:
    event = Transfer.from_args({"from": ONE, "to": TWO, "value": str(2**200)})

    assert event == Transfer(from_=ONE, to=TWO, value=Wei(2**200))


def test_a_new_version_names_the_one_before() -> None:
    kinds = ["uint64", "address", "uint64", "uint8", "uint96", "bytes32", "bytes32"]
    topics, data = log(kinds, [2, ONE, 1, 1, 10, GRANT, GRANT], indexed=3)
    event = Registered.from_args(Registered.ABI.decode([Registered.ABI.topic0, *topics], data))

    assert (event.id, event.previous, event.kind) == (2, 1, Kind.MODEL)


def test_deployment_data_is_bytecode_and_constructor_arguments() -> None:
    data = Invocation.deploy_data(ONE, TWO)

    assert data == Invocation.ABI.bytecode + eth_abi.encode(["address", "address"], [ONE, TWO])
    assert Registry.deploy_data() == Registry.ABI.bytecode
    assert MarketToken.deploy_data("Happy", "HAPY", ONE, 1).startswith(MarketToken.ABI.bytecode)


def test_what_does_not_fit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(UnencodableError, match=r"Invocation\.deliver"):
        invocation.deliver(1, GRANT[:-1] + b"toolong")
    with pytest.raises(UnencodableError, match=r"Invocation\.pay"):
        invocation.pay(-1, 0)


def test_every_event_of_the_protocols_has_its_key_first() -> None:
    """The key of a subject is the first indexed parameter: an item's id, or whom the event is about."""
    ids = {"Invocation": {"Paid", "Delivered", "Refunded", "Used"}}
    ids["Registry"] = {"Registered", "Repriced", "Restricted", "Allowed", "Withdrawn"}
    for contract, names in ids.items():
        for name in names:
            event = ContractAbi.load(contract).event(name)
            assert event.inputs[0].name == event.key_name == "id", f"{contract}.{name}"


def test_codecs_are_built_once() -> None:
    """Looking types up for every call or log costs several times the limits here, which are generous."""
    kinds = ["uint64", "address", "address", "uint64", "uint96", "uint40"]
    topics, data = log(kinds, [9, ONE, TWO, 5, 10, 77], indexed=3)
    signed = [Paid.ABI.topic0, *topics]

    encode = min(timeit.repeat(lambda: invocation.pay(7, 10), number=200, repeat=20)) / 200
    decode = min(timeit.repeat(lambda: Paid.ABI.decode(signed, data), number=200, repeat=20)) / 200

    assert encode < 100e-6
    assert decode < 60e-6


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on PATH: the compiler cannot run")
@pytest.mark.timeout(400)  # the compiler takes most of a minute of a processor of its own
def test_what_is_checked_in_is_what_the_source_compiles_to() -> None:
    script = ROOT / "contracts" / "tools" / "bindings.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
