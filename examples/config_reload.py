"""Configuration with live reload: a local copy that a watch keeps current. Reading it costs no request. Prints:

level=info workers=4
level=debug workers=4
level=debug workers=8
not a number of workers: 'many'; still 8
"""

from __future__ import annotations

import asyncio

from connected import connected

import tercet


class Settings:
    """What the application reads; a value that does not parse leaves the old one in place."""

    def __init__(self, cache: tercet.Cache) -> None:
        self._cache = cache
        self.level, self.workers = "info", 1
        self.reload()

    def reload(self) -> None:
        self.level = self._text("level", "info")
        text = self._text("workers", "1")
        if text.isdecimal():
            self.workers = int(text)
        else:
            print(f"not a number of workers: {text!r}; still {self.workers}")

    def _text(self, name: str, default: str) -> str:
        kv = self._cache.get(f"config/{name}")
        return kv.text() if kv else default

    def __str__(self) -> str:
        return f"level={self.level} workers={self.workers}"


async def main() -> None:
    async with connected() as client:
        await client.put("config/workers", "4")
        async with client.cache("config/") as cache:
            settings = Settings(cache)
            print(settings)
            cache.on_change(lambda batch: settings.reload())
            for name, value in (("level", "debug"), ("workers", "8")):
                await client.put(f"config/{name}", value)
                await cache.sync()  # for the example: wait until the copy includes this write
                print(settings)
            await client.put("config/workers", "many")
            await cache.sync()


if __name__ == "__main__":
    asyncio.run(main())
