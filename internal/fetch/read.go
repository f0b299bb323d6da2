// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync/atomic"
)

const (
	// chunk is how many bytes are read or written at once.
	chunk = 64 << 10
	// maxAhead is how many bytes of the directory may wait on disk for their layers' turn, beside the directory itself.
	maxAhead = 32 << 20
	// entryCost is what an entry counts of that, beside names and content: what a small file takes on a disk, and much more than it takes in memory.
	entryCost = 4 << 10
	// alwaysAhead is how many bytes of layers may be asked for in vain, however little was needed: about what a registry sends while one waits for its answer.
	alwaysAhead = 1 << 20
)

// errPutOff ends the reading of a layer of which too much would have to wait.
var errPutOff = errors.New("put off")

// errUnread stands for what was wrong with the content of an entry, which the layer's own error tells.
var errUnread = errors.New("unread")

// reading is that of one layer. What concerns the directory is kept until all layers above are decided, and applied to the tree then: so what comes of
// an image does not depend on which layer was faster.
type reading struct {
	x      *extraction
	layer  layer
	number int // from 1, the lowest

	hasSum atomic.Bool // it has shown a sum file of the directory
	done   bool        // what follows is there

	err      error // that reading has ended with
	unpacked int64 // bytes
	seen     seen
	kept     []kept
}

// kept is an entry that waits for its layer's turn.
type kept struct {
	entry
	offset int64 // in the unpacked layer, behind its header
	blob   *blob // of a file; nil if its content could not be read
	cost   int64 // of maxAhead
}

// taker takes an entry that concerns the directory.
type taker func(e entry, offset int64, content io.Reader) error

// read reads layers, as many at once as is of use, until there are no more, or what is left of them can add nothing to the directory.
// The function stop ends the context, and with it all transfers that have been begun in vain.
func (x *extraction) read(ctx context.Context, stop func(), layers []layer, log *slog.Logger) error {
	defer x.begun.Wait()
	defer stop()

	readings := make([]*reading, len(layers))
	for i, l := range layers {
		readings[i] = &reading{x: x, layer: l, number: i + 1, seen: seen{}}
	}
	ended := make(chan *reading, len(layers))
	next, running := len(layers)-1, 0
	for top := next; top >= 0 && !x.complete(); top-- {
		for !readings[top].done {
			for next >= 0 && (next == top || running < streams() && worthwhile(readings[next:top+1])) {
				r, limit := readings[next], x.left
				x.begun.Go(func() {
					r.err = r.read(ctx, limit, r.keep)
					ended <- r
				})
				next--
				running++
			}
			r := <-ended
			r.done = true
			running--
		}
		r := readings[top]
		if err := r.decide(ctx); err != nil {
			return err
		}
		x.left -= r.unpacked
		x.seen.addAll(r.seen)
		log.Info("layer read", "layer", r.number, "of", len(layers), "unpackedBytes", x.scanned(), "takenBytes", x.bytes)
	}
	return nil
}

// streams is how many layers are read at once: one for each processor, and two where there is one, since registries keep one waiting. Each takes memory.
func streams() int { return min(max(runtime.GOMAXPROCS(0), 2), 4) }

// worthwhile says whether to begin the first of these layers while the last, the only one that is certainly needed, is not decided. Not so beneath a sum
// file, since chances are that it makes all that lies there superfluous. Else up to twice as much as is needed may be asked for in vain: thus the
// small layer with the migrations does not cost a transfer of the large ones beneath, but layers of about one size are read together.
func worthwhile(undecided []*reading) bool {
	hasSum := func(r *reading) bool { return r.hasSum.Load() }
	if slices.ContainsFunc(undecided, hasSum) {
		return false
	}
	last := len(undecided) - 1
	var ahead int64
	for _, r := range undecided[:last] {
		ahead += r.layer.size
	}
	return ahead <= max(alwaysAhead, 2*undecided[last].layer.size)
}

// decide applies what the layer holds, when all above it are decided.
func (r *reading) decide(ctx context.Context) error {
	if _, disk := errors.AsType[*Error](r.err); !disk && !errors.Is(r.err, errPutOff) {
		return r.replay()
	}
	if err := r.forget(); err != nil {
		return err
	}
	return r.read(ctx, r.x.left, r.apply)
}

// read passes to take what of the layer concerns the directory.
func (r *reading) read(ctx context.Context, limit int64, take taker) error {
	blob, err := r.layer.open()
	if err != nil {
		return err
	}
	packed := r.x.transfer(blob)
	defer packed.Close()
	err = r.unpack(ctx, bufio.NewReaderSize(packed, chunk), limit, take)
	_, refused := errors.AsType[refusal](err)
	_, disk := errors.AsType[*Error](err)
	if refused || disk || errors.Is(err, errPutOff) || ctx.Err() != nil {
		return err
	}
	// Damage shows first as bad compression or a bad archive. Whether the registry or the image is to blame, the digest tells at the end.
	if _, lost := io.Copy(io.Discard, packed); lost != nil {
		return lost
	}
	if err != nil {
		return refuse("layer %d cannot be unpacked: %v", r.number, err)
	}
	return nil
}

// transfer reads a layer in a goroutine of its own, a chunk ahead, and then closes it. So bytes come, and go into the digest, while others are unpacked.
func (x *extraction) transfer(blob io.ReadCloser) *io.PipeReader {
	out, in := io.Pipe()
	x.begun.Go(func() {
		defer blob.Close()
		n, err := io.CopyBuffer(in, blob, make([]byte, chunk))
		x.transferred.Add(n)
		_ = in.CloseWithError(err) // never fails
	})
	return out
}

// unpack goes through the layer's archive, or the file that the layer is.
func (r *reading) unpack(ctx context.Context, packed *bufio.Reader, limit int64, take taker) error {
	unpacked := &meter{ctx: ctx, r: packed, limit: limit, full: r.x.full()}
	defer func() { r.unpacked = unpacked.bytes }()
	if r.layer.title != "" && isFile(packed) {
		if err := r.entry(r.x.titled(r.layer), unpacked.bytes, unpacked, take); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, unpacked)
		return err
	}
	decompressed, release, err := decompress(packed)
	if err != nil {
		return err
	}
	defer release()
	unpacked.r = decompressed
	archive := tar.NewReader(unpacked)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := r.entry(header, unpacked.bytes, archive, take); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, unpacked) // what follows the end of the archive
	return err
}

// entry passes on what concerns the directory.
func (r *reading) entry(h *tar.Header, offset int64, content io.Reader, take taker) error {
	e, err := r.x.sift(h)
	if err != nil {
		return err
	}
	if e.action == nothing {
		r.x.note(e, r.seen)
		return nil
	}
	if e.isFile() && e.at == r.x.sumPath() {
		r.hasSum.Store(true)
	}
	return take(e, offset, content)
}

// apply takes an entry of a layer whose turn has come.
func (r *reading) apply(e entry, _ int64, content io.Reader) error {
	return r.x.apply(e, r.number, func() (*blob, error) { return r.x.stage.add(content) })
}

// keep takes an entry of a layer whose turn has perhaps not come.
func (r *reading) keep(e entry, offset int64, content io.Reader) error {
	k := kept{entry: e, offset: offset, cost: int64(entryCost + len(e.at) + len(e.link))}
	if e.isFile() {
		k.cost += e.size
	}
	if r.x.ahead.Add(-k.cost) < 0 {
		r.x.ahead.Add(k.cost)
		return errPutOff
	}
	var err error
	if e.isFile() {
		k.blob, err = r.x.stage.add(content)
	}
	r.kept = append(r.kept, k)
	return err
}

// replay applies what was kept, as if the layer were only being read now. It returns the error that would have come first then.
func (r *reading) replay() error {
	for _, k := range r.kept {
		if k.offset > r.x.left {
			return r.x.full()
		}
		used := false
		err := r.x.apply(k.entry, r.number, func() (*blob, error) {
			if k.blob == nil {
				return nil, errUnread
			}
			used = true
			return k.blob, nil
		})
		if errors.Is(err, errUnread) {
			break
		}
		if err == nil && k.blob != nil && !used { // hidden
			err = r.x.stage.remove(k.blob)
		}
		if err != nil {
			return err
		}
		r.x.ahead.Add(k.cost)
	}
	r.kept = nil
	if r.unpacked > r.x.left {
		return r.x.full()
	}
	return r.err
}

// forget drops what was kept.
func (r *reading) forget() error {
	for _, k := range r.kept {
		r.x.ahead.Add(k.cost)
		if k.blob == nil {
			continue
		}
		if err := r.x.stage.remove(k.blob); err != nil {
			return err
		}
	}
	r.kept = nil
	return nil
}
