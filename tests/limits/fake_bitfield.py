"""A FAKE of the few Redis commands that the windows send, in memory, for properties that need many thousands of cases.

It is trusted because it passes the same contract as the real Redis (`test_fake_bitfield.py`), and for nothing else.
"""

from collections.abc import Iterator

from lib.redis.op import Command, Op, Reply


class FakeBitfield:
    """BITFIELD, BITFIELD_RO (unsigned only), EXPIRE, TTL, DEL and EXISTS. Time does not pass in it."""

    def __init__(self) -> None:
        self.values: dict[str, bytearray] = {}
        self.ttls: dict[str, int] = {}

    def run[T](self, op: Op[T], /) -> T:
        """Execute the commands one after the other, and read their replies."""
        return op.read([self.command(*command) for command in op.commands])

    def command(self, *command: str | int) -> Reply:
        """The reply of one command."""
        name, key = str(command[0]), str(command[1])
        match name:
            case "BITFIELD" | "BITFIELD_RO":
                return list(self._bitfield(key, command[2:]))
            case "EXPIRE":
                if key not in self.values:
                    return 0
                self.ttls[key] = int(command[2])
                return 1
            case "TTL":
                return self.ttls.get(key, -1) if key in self.values else -2
            case "EXISTS":
                return int(key in self.values)
            case "DEL":
                found = [str(each) for each in command[1:] if each in self.values]
                for each in found:
                    del self.values[each]
                    self.ttls.pop(each, None)
                return len(found)
        raise NotImplementedError(name)

    def _bitfield(self, key: str, parts: Command) -> Iterator[Reply]:
        at, overflow = 0, "WRAP"
        while at < len(parts):
            match parts[at]:
                case "OVERFLOW":
                    overflow, at = str(parts[at + 1]), at + 2
                case "GET":
                    yield self._get(key, int(str(parts[at + 1])[1:]), int(parts[at + 2]))
                    at += 3
                case "INCRBY":
                    bits, offset = int(str(parts[at + 1])[1:]), int(parts[at + 2])
                    yield self._incrby(key, bits, offset, int(parts[at + 3]), overflow)
                    at += 4
                case other:
                    raise NotImplementedError(other)

    def _get(self, key: str, bits: int, offset: int) -> int:
        value, end = self.values.get(key, b""), offset + bits
        last = -(-end // 8)
        read = bytes(value[offset // 8 : last]).ljust(last - offset // 8, b"\0")
        return int.from_bytes(read) >> (last * 8 - end) & (1 << bits) - 1

    def _incrby(self, key: str, bits: int, offset: int, by: int, overflow: str) -> int | None:
        last, most = -(-(offset + bits) // 8), (1 << bits) - 1
        # Redis makes the key, at its new length, before it looks at the overflow.
        value = self.values.setdefault(key, bytearray())
        value.extend(bytes(max(0, last - len(value))))
        new = self._get(key, bits, offset) + by
        if not 0 <= new <= most:
            if overflow == "FAIL":
                return None
            new = max(0, min(new, most)) if overflow == "SAT" else new & most
        first, shift = offset // 8, last * 8 - offset - bits
        held = int.from_bytes(value[first:last])
        value[first:last] = (held & ~(most << shift) | new << shift).to_bytes(last - first)
        return new
