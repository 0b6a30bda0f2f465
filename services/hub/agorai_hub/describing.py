"""The hub's part of the AsyncAPI 3.0 document: one channel for each event of each followed contract, by its ABI."""

from __future__ import annotations

from typing import Any, Final

from agorai_hub.contracts import ContractSet
from agorai_shared.abi.codec import Parameter
from agorai_shared.contract import EventAbi
from agorai_shared.events import CONTENT_TYPE

_HASH: Final = {"type": "string", "pattern": "^0x[0-9a-f]{64}$"}
_ADDRESS: Final = {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}
_PHASES: Final = {
    "enum": ["head", "final", "retracted"],
    "description": "head: seen; final: here to stay; retracted: seen, then reorged out",
}
_BLOCK: Final[dict[str, Any]] = {
    "chain_id": {"type": "integer"},
    "number": {"type": "integer"},
    "hash": _HASH,
    "parent_hash": _HASH,
    "timestamp": {"type": "integer", "description": "seconds since 1970, by the block"},
    "events": {"type": "integer", "description": "how many events the block or range has"},
    "first": {"type": "integer", "description": "first block that it stands for; `number` unless a range"},
}


def described(chain_id: int, contracts: ContractSet) -> dict[str, Any]:
    """Give `channels`, `operations` and `components.messages` of one chain."""
    channels: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for name, abi in contracts.abis.items():
        for event in abi.events.values():
            id_ = f"{chain_id}.{name}.{event.name}"
            if id_ in messages:  # an overloaded event: the same channel, either payload
                other = messages[id_]["payload"]["properties"]["data"]["properties"]["args"]
                messages[id_]["payload"] = _payload(chain_id, name, event, {"anyOf": [other, _args(event)]})
                continue
            messages[id_] = {
                "name": id_,
                "title": event.signature,
                "contentType": CONTENT_TYPE,
                "payload": _payload(chain_id, name, event, _args(event)),
            }
            channels[id_] = _channel(
                f"chain.{{phase}}.{chain_id}.{name}.{event.name}.{{key}}",
                id_,
                f"{event.signature} of {name} on chain {chain_id}",
                {"phase": _PHASES, "key": {"description": _key(event)}},
            )
    tick = f"{chain_id}.block"
    messages[tick] = {
        "name": tick,
        "title": "a block",
        "contentType": CONTENT_TYPE,
        "payload": _cloud_event("agorai.chain.block", _object(_BLOCK)),
    }
    address = f"chain.{{phase}}.{chain_id}.block"
    channels[tick] = _channel(address, tick, "A block, behind its events", {"phase": _PHASES})
    operations = {
        f"publish.{id_}": {"action": "send", "channel": {"$ref": f"#/channels/{id_}"}} for id_ in channels
    }
    return {"channels": channels, "operations": operations, "components": {"messages": messages}}


def _channel(address: str, id_: str, description: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "parameters": parameters,
        "messages": {id_: {"$ref": f"#/components/messages/{id_}"}},
    }


def _key(event: EventAbi) -> str:
    return "no indexed argument: `-`" if event.key_name is None else f"`{event.key_name}`, as text"


def _payload(chain_id: int, contract: str, event: EventAbi, args: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "chain_id": {"const": chain_id},
        "contract": {"const": contract},
        "address": _ADDRESS,
        "event": {"const": event.name},
        "key": {"type": "string"},
        "block_number": {"type": "integer"},
        "block_hash": _HASH,
        "block_time": {"type": "integer", "description": "seconds since 1970, by the block"},
        "transaction_hash": _HASH,
        "log_index": {"type": "integer"},
        "args": args,
        "truncated": {"type": "boolean", "description": "true: too large for the bus, without arguments"},
    }
    return _cloud_event(f"agorai.{contract}.{event.name}", _object(data))


def _cloud_event(type_: str, data: dict[str, Any]) -> dict[str, Any]:
    return _object(
        {
            "specversion": {"const": "1.0"},
            "id": {"type": "string"},
            "source": {"type": "string", "description": "CAIP-10 account, or CAIP-2 chain for a block"},
            "type": {"const": type_},
            "subject": {"type": "string"},
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "phase": {"enum": _PHASES["enum"]},
            "data": data,
        }
    )


def _args(event: EventAbi) -> dict[str, Any]:
    return _object({one.name: _argument(one) for one in event.inputs})


def _argument(parameter: Parameter) -> dict[str, Any]:
    if parameter.indexed and parameter.is_hashed_when_indexed:
        return {**_HASH, "description": f"{parameter.canonical}: the log has only its Keccak hash"}
    return {"description": parameter.canonical, **_schema(parameter)}


def _schema(parameter: Parameter) -> dict[str, Any]:
    kind = parameter.type
    if kind.endswith("]"):
        element = Parameter(parameter.name, kind[: kind.rindex("[")], False, parameter.components)
        return {"type": "array", "items": _schema(element)}
    if kind == "tuple":
        return _object({part.name: _argument(part) for part in parameter.components})
    if kind.startswith(("uint", "int")):
        return {"type": ["integer", "string"], "pattern": "^-?[0-9]+$"}
    if kind == "address":
        return dict(_ADDRESS)
    if kind == "bool":
        return {"type": "boolean"}
    return {"type": "string"} if kind == "string" else {"type": "string", "pattern": "^0x([0-9a-f]{2})*$"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
