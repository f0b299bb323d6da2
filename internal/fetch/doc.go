// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package fetch reads a container image from its registry and puts one directory of it, the migrations, into a local directory.
//
// The image is material of somebody else: its registry, manifest and layers may be broken or hostile. So:
//
// Resolving. The reference is resolved once; from then on everything is read by digest, and the digest of what was asked for is reported.
// Of an index any image will do, as SQL has no architecture: linux/amd64 if there is one, else the first that is not an attestation.
// A repository outside the allowed prefixes is refused before anything is sent to a registry. HTTPS only, unless Options.PlainHTTP.
//
// Reading. Layers are read from the top down, each one streamed, its bytes checked against its digest, nothing kept of it but what lies in the
// directory. A tree in memory remembers what is decided: a path that a layer has shown or deleted is not looked at again in
// those beneath. Thus nothing is ever unpacked to be deleted afterwards. Deletions (.wh.name) and opaque directories (.wh..wh..opq) hide
// what lower layers hold, never what their own layer holds; the directory's parents count too. Within one layer a later entry replaces an
// earlier one of the same name, as tar does. A layer of an artifact may be a file, named by its title.
//
// Stopping. Layers are read no further than until all files of the directory's atlas.sum are there with the right hashes, or the directory is deleted or
// opaque. What is beneath is as if it were not in the image.
//
// Reading ahead. Several layers are read at once. What one holds waits in the staging directory and is applied to the tree when all above it are
// decided, so that nothing depends on time. What would have to wait in too large amounts is read again when its turn has come.
//
// Writing. Contents go to a staging directory, under numbers instead of names, and get their names when all that is needed has been read and verified.
// So the directory ends up complete or empty. All writing goes through an [os.Root]. Files are 0444 and directories 0755, whatever the archive says.
//
// Links. A symbolic or hard link to a regular file in the directory becomes one. Everything else is refused: a link
// that leaves the directory, dangles, leads to a directory or in a circle; a hard link whose target a higher layer replaces; the directory itself or a parent of it being a link.
//
// Also refused: devices, FIFOs and sockets in the directory; names with a ".." in the whole image; names that are too long or hold backslashes or
// control characters in the directory; a directory that is missing, a file, or without files.
//
// Limits, with their defaults: 64 MiB and 10,000 entries in the directory, 20 GiB of layers (packed and, counted anew, unpacked), which takes
// a core a minute or two and is what keeps a decompression bomb from burning it for hours; 32 MiB on disk of what waits; 500 layers; manifests of 4 MiB; zstd windows of 16 MiB.
// An entry that is too large is refused by its header, before it is read. Memory stays within some tens of MiB.
//
// A registry that does not answer is given up after about a minute, one that stops in the middle of an answer after 30 s. What the registry says is
// told without anything that may be a credential.
package fetch
