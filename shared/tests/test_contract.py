"""Codecs, logs, reverts and calls, of our own contracts and of any other."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from eth_abi import abi as eth_abi
from eth_utils.crypto import keccak

from agorai_shared.abi.errors import (
    AnonymousEventError,
    BadAbiError,
    LogMismatchError,
    NotInAbiError,
    UndecodableError,
    UnencodableError,
)
from agorai_shared.contract import ContractAbi, EventAbi

Entry: TypeAlias = dict[str, object]

ADDRESS = "0x52908400098527886E0F7030069857D2E4169EE7"
OTHER = "0xde709f2102306220921060314715629080e2fb77"


def argument(kind: str, name: str, *, indexed: bool = False, components: list[Entry] | None = None) -> Entry:
    entry: Entry = {"name": name, "type": kind, "indexed": indexed}
    return entry | {"components": components} if components else entry


def event(*inputs: Entry, anonymous: bool = False) -> Entry:
    return {"type": "event", "name": "Happened", "inputs": [*inputs], "anonymous": anonymous}


def topic(kind: str, value: object) -> str:
    return "0x" + eth_abi.encode([kind], [value]).hex()


def data(kinds: list[str], values: list[object]) -> str:
    return "0x" + eth_abi.encode(kinds, values).hex()


def test_an_event_is_known_by_the_hash_of_its_signature() -> None:
    abi = EventAbi.from_abi(
        {
            "type": "event",
            "name": "Transfer",
            "inputs": [
                argument("address", "from", indexed=True),
                argument("address", "to", indexed=True),
                argument("uint256", "value"),
            ],
        }
    )

    assert abi.signature == "Transfer(address,address,uint256)"
    assert abi.topic0 == "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    assert abi.key_name == "from"


def test_values_come_out_as_json_can_carry_them() -> None:
    abi = EventAbi.from_abi(
        event(
            argument("int24", "change", indexed=True),
            argument("address", "who", indexed=True),
            argument("bytes4", "selector"),
            argument("bool", "done"),
            argument("string", "text"),
            argument("bytes", "raw"),
            argument("uint256", "amount"),
        )
    )
    kinds = ["bytes4", "bool", "string", "bytes", "uint256"]
    values: list[object] = [b"\x01\x02\x03\x04", True, "Grüße", b"\xff", 2**256 - 1]

    found = abi.decode([abi.topic0, topic("int24", -5), topic("address", OTHER)], data(kinds, values))

    assert found == {
        "change": -5,
        "who": "0xde709f2102306220921060314715629080e2fb77",
        "selector": "0x01020304",
        "done": True,
        "text": "Grüße",
        "raw": "0xff",
        "amount": 2**256 - 1,
    }
    assert list(found) == ["change", "who", "selector", "done", "text", "raw", "amount"]


def test_addresses_come_out_checksummed() -> None:
    abi = EventAbi.from_abi(event(argument("address[]", "who")))

    assert abi.decode([abi.topic0], data(["address[]"], [[ADDRESS.lower()]])) == {"who": [ADDRESS]}


def test_tuples_and_arrays_of_them_come_out_by_name() -> None:
    point = [argument("uint8", "x"), argument("bytes2[]", "marks")]
    abi = EventAbi.from_abi(
        event(
            argument("tuple", "one", components=point),
            argument("tuple[2][]", "many", components=point),
            argument("uint16[2]", "pair"),
        )
    )
    kinds = ["(uint8,bytes2[])", "(uint8,bytes2[])[2][]", "uint16[2]"]
    values: list[object] = [(1, [b"ab"]), [[(2, []), (3, [b"cd", b"ef"])]], [7, 8]]

    assert abi.signature == f"Happened({','.join(kinds)})"
    assert abi.decode([abi.topic0], data(kinds, values)) == {
        "one": {"x": 1, "marks": ["0x6162"]},
        "many": [[{"x": 2, "marks": []}, {"x": 3, "marks": ["0x6364", "0x6566"]}]],
        "pair": [7, 8],
    }


@pytest.mark.parametrize(
    "hashed",
    [
        argument("string", "name", indexed=True),
        argument("bytes", "name", indexed=True),
        argument("uint256[]", "name", indexed=True),
        argument("uint8[3]", "name", indexed=True),
        argument("tuple", "name", indexed=True, components=[argument("uint8", "x")]),
    ],
)
def test_what_has_no_fixed_word_comes_out_as_its_hash_when_indexed(hashed: Entry) -> None:
    abi = EventAbi.from_abi(event(argument("uint8", "a"), hashed, argument("uint8", "b", indexed=True)))
    digest = "0x" + keccak(b"anything").hex()

    found = abi.decode([abi.topic0, digest, topic("uint8", 2)], data(["uint8"], [1]))

    assert found == {"a": 1, "name": digest, "b": 2}
    assert list(found) == ["a", "name", "b"]


def test_nameless_parameters_are_called_by_their_position() -> None:
    abi = EventAbi.from_abi(event(argument("uint8", "", indexed=True), argument("uint8", "")))

    assert abi.decode([abi.topic0, topic("uint8", 1)], data(["uint8"], [2])) == {"arg0": 1, "arg1": 2}


def test_an_event_without_parameters_has_no_key() -> None:
    abi = EventAbi.from_abi(event())

    assert abi.key_name is None
    assert abi.decode([abi.topic0], "0x") == {}


def test_a_string_that_is_no_utf8_does_not_stop_the_reader() -> None:
    abi = EventAbi.from_abi(event(argument("string", "text"), argument("uint8", "n")))
    raw = eth_abi.encode(["bytes", "uint8"], [b"a\xff\xfe", 1])

    assert abi.decode([abi.topic0], "0x" + raw.hex()) == {"text": "a\ufffd\ufffd", "n": 1}


def test_an_anonymous_event_is_refused_by_name() -> None:
    with pytest.raises(AnonymousEventError, match="Happened is anonymous"):
        EventAbi.from_abi(event(anonymous=True))


@pytest.mark.parametrize("name", ["", "a.b", "a b", ">", "*", "1a", "\u00e9t\u00e9", "a\n"])
def test_an_event_whose_name_is_no_identifier_is_refused(name: str) -> None:
    with pytest.raises(BadAbiError, match="identifier"):
        EventAbi.from_abi({**event(), "name": name})


def test_two_parameters_of_one_name_are_refused() -> None:
    with pytest.raises(BadAbiError, match="one name"):
        EventAbi.from_abi(event(argument("uint8", "a"), argument("uint8", "a")))


@pytest.mark.parametrize(
    ("topics", "body", "cause"),
    [
        ([], "0x", "0 topics instead of 2"),
        (["0x" + "00" * 32, topic("uint8", 1)], "0x" + "00" * 32, "its signature is"),
        (["own", topic("uint256", 256)], "0x" + "00" * 32, "256 does not fit uint8"),
        (["own", topic("uint8", 1)], "0x", "0 hex digits instead of 64"),
        (["own", topic("uint8", 1)], "0x" + "zz" * 32, "invalid literal"),
    ],
)
def test_a_log_that_is_not_the_event_is_refused(topics: list[str], body: str, cause: str) -> None:
    abi = EventAbi.from_abi(event(argument("uint8", "a", indexed=True), argument("uint8", "b")))

    with pytest.raises(LogMismatchError, match=cause):
        abi.decode([abi.topic0 if t == "own" else t for t in topics], body)


def test_a_hostile_log_is_refused_and_not_followed() -> None:
    """An offset or a length of 2**255 must neither allocate nor loop."""
    abi = EventAbi.from_abi(event(argument("uint256[]", "values")))
    huge = f"{2**255:064x}"

    for body in (huge, f"{32:064x}{huge}", f"{32:064x}{2**40:064x}{1:064x}"):
        with pytest.raises(LogMismatchError):
            abi.decode([abi.topic0], "0x" + body)


def test_a_foreign_abi_keeps_all_its_events_and_finds_them_by_topic() -> None:
    entries: list[Entry] = [event(argument("uint8", "a")), {"type": "fallback"}, {"type": "receive"}]
    abi = ContractAbi.from_entries("Foreign", entries)

    assert abi.events[abi.event("Happened").topic0].name == "Happened"
    assert abi.bytecode == b""


def test_overloaded_functions_are_found_by_signature_only() -> None:
    entries: list[Entry] = [
        {"type": "function", "name": "f", "inputs": [argument("uint8", "a")], "outputs": []},
        {"type": "function", "name": "f", "inputs": [], "outputs": []},
    ]
    abi = ContractAbi.from_entries("Foreign", entries)

    assert abi.function("f(uint8)").inputs[0].name == "a"
    with pytest.raises(NotInAbiError, match="single function f"):
        abi.function("f")
    with pytest.raises(NotInAbiError, match="function g"):
        abi.function("g")


def test_what_is_no_abi_is_refused_with_its_name() -> None:
    with pytest.raises(BadAbiError, match="Foreign"):
        ContractAbi.from_entries("Foreign", [{"type": "event", "name": "E", "inputs": [{"name": "a"}]}])
    with pytest.raises(BadAbiError, match="Foreign"):
        ContractAbi.from_entries("Foreign", [event(argument("uint7", "a"))])


def test_a_contract_that_is_not_packaged_is_named() -> None:
    with pytest.raises(NotInAbiError, match="contract Nothing"):
        ContractAbi.load("Nothing")


def test_arguments_that_do_not_fit_are_refused_with_the_function() -> None:
    transfer = ContractAbi.load("MarketToken").function("transfer")

    for values in ((ADDRESS, -1), (ADDRESS, 2**256), ("0x12", 1), (ADDRESS,), (ADDRESS[:-1] + "8", "1")):
        with pytest.raises(UnencodableError, match=r"MarketToken\.transfer\(address,uint256\)"):
            transfer.encode(values)


def test_no_output_is_refused_with_a_hint_at_the_address() -> None:
    with pytest.raises(UndecodableError, match="Check that the address"):
        ContractAbi.load("MarketToken").function("balanceOf").decode(b"")


class TestReverts:
    abi = ContractAbi.load("Invocation")

    def error(self, signature: str, kinds: list[str], values: list[object]) -> str:
        return "0x" + (keccak(text=signature)[:4] + eth_abi.encode(kinds, values)).hex()

    def test_a_custom_error_is_told_with_its_values(self) -> None:
        sent = self.error("Invocation_NotOwner(uint64,address)", ["uint64", "address"], [7, ADDRESS])

        assert self.abi.decode_error(sent) == f"Invocation_NotOwner(id=7, caller={ADDRESS})"
        revert = self.abi.revert(sent)
        assert revert is not None
        assert (revert.name, dict(revert.args)) == ("Invocation_NotOwner", {"id": 7, "caller": ADDRESS})

    def test_an_error_passed_on_from_another_contract_is_told_too(self) -> None:
        sent = self.error("Registry_NotMember(address)", ["address"], [ADDRESS])

        assert self.abi.decode_error(sent) == f"Registry_NotMember(account={ADDRESS})"

    def test_an_error_of_the_token_is_told_too(self) -> None:
        kinds = ["address", "uint256", "uint256"]
        sent = self.error("ERC20InsufficientBalance(address,uint256,uint256)", kinds, [ADDRESS, 1, 2])

        assert self.abi.decode_error(sent) == (
            f"ERC20InsufficientBalance(sender={ADDRESS}, balance=1, needed=2)"
        )

    def test_a_message_is_told_as_it_is(self) -> None:
        assert self.abi.decode_error(self.error("Error(string)", ["string"], ["no luck"])) == "no luck"

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            (0x11, "panic 0x11: arithmetic overflow"),
            (0x32, "panic 0x32: index out of bounds"),
            (0x99, "panic 0x99: unknown code"),
        ],
    )
    def test_a_panic_is_told_by_its_code(self, code: int, said: str) -> None:
        assert self.abi.decode_error(self.error("Panic(uint256)", ["uint256"], [code])) == said

    @pytest.mark.parametrize("sent", ["", "0x"])
    def test_no_data_is_no_reason(self, sent: str) -> None:
        assert self.abi.decode_error(sent) == "no reason given"
        assert self.abi.revert(sent) is None

    def test_what_is_not_known_is_shown(self) -> None:
        assert self.abi.decode_error("0x12345678") == "unknown error 0x12345678"

    def test_a_known_error_with_broken_values_is_shown(self) -> None:
        selector = "0x" + keccak(text="Error(string)")[:4].hex()

        assert self.abi.decode_error(selector + "00") == f"unknown error {selector}00"


@pytest.mark.parametrize(
    "inputs",
    [
        [{"name": "a", "type": "Lib.Data storage"}],
        [{"name": "a", "type": "uint256[0][]"}],
        ["x"],
        [{"name": "a"}],
    ],
)
def test_an_abi_that_no_compiler_writes_is_refused_with_its_contracts_name(inputs: list[object]) -> None:
    with pytest.raises(BadAbiError, match="Odd"):
        ContractAbi.from_entries("Odd", [{"type": "event", "name": "Happened", "inputs": inputs}])


def test_arrays_that_point_to_the_same_bytes_again_and_again_are_refused() -> None:
    def word(value: int) -> bytes:
        return value.to_bytes(32)

    width = 60  # of each of three levels, all of whose pointers lead to the same next level
    level = word(width) + word(32 * width) * width
    abi = EventAbi.from_abi(event(argument("uint256[][][]", "a")))
    hostile = word(32) + level + level + word(width) + word(1) * width
    with pytest.raises(LogMismatchError, match="same bytes"):
        abi.decode([abi.topic0], "0x" + hostile.hex())
    values = [[[n + m + k for n in range(5)] for m in range(7)] for k in range(20)]
    honest = eth_abi.encode(["uint256[][][]"], [values])
    assert abi.decode([abi.topic0], "0x" + honest.hex()) == {"a": values}
    strings = ["", "x" * 500, *("y" for _ in range(300))]
    abi = EventAbi.from_abi(event(argument("string[]", "a")))
    assert abi.decode([abi.topic0], "0x" + eth_abi.encode(["string[]"], [strings]).hex()) == {"a": strings}
