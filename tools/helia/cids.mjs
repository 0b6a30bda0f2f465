// Reads lines of JSON and answers each with the CID that Helia gives:
//   {"path": FILE}                              the file's bytes
//   {"entries": [[NAME, FILE], ...]}            a directory of such files
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { unixfs } from '@helia/unixfs'
import { MemoryBlockstore } from 'blockstore-core'

const files = unixfs({ blockstore: new MemoryBlockstore() })
const add = (path) => files.addByteStream(createReadStream(path, { highWaterMark: 1 << 20 }))

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line)
  let cid
  if (asked.path !== undefined) {
    cid = await add(asked.path)
  } else {
    cid = await files.addDirectory()
    for (const [name, path] of asked.entries) cid = await files.cp(await add(path), cid, name)
  }
  console.log(cid.toString())
}
