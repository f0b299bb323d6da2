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
	"sync"
	"sync/atomic"
)

const (
	// maxAhead is how many bytes of the directory, names included, may wait for the turn of their layers.
	maxAhead = 16 << 20
	// keptCost is about what remembering an entry takes, beside names and content.
	keptCost = 256
	// alwaysAhead is how many bytes of layers may be asked for in vain, however little was needed: about what a registry sends while one waits for its answer.
	alwaysAhead = 1 << 20
)

// errPutOff ends the reading of a layer that is better read when its turn has come.
var errPutOff = errors.New("put off")

// errUnread stands for what was wrong with the content of an entry, which the layer's own error tells.
var errUnread = errors.New("unread")

// reading is that of one layer. A layer's turn comes when all those above it are decided. What is read before is kept, and applied to the tree then: so
// what comes of an image does not depend on which layer was faster.
type reading struct {
	x       *extraction
	layer   layer
	number  int           // from 1, the lowest
	turn    chan struct{} // closed when its turn has come
	decided chan error    // gets what came of it, after that

	seen     seen
	buffer   []byte
	unpacked int64 // bytes
	kept     []kept
	hasSum   atomic.Bool // it has shown a sum file of the directory
}

// kept is an entry that was read before its layer's turn.
type kept struct {
	entry
	offset int64 // in the unpacked layer, behind its header
	blob   *blob // of a file, nil if it could not be read
	cost   int64 // of maxAhead
}

// taker takes an entry that concerns the directory.
type taker func(e entry, offset int64, content io.Reader) error

// read reads layers, as many at once as is of use, until there are no more, or what is left of them can add nothing to the directory.
// The function stop ends the context, and with it all transfers that have been begun in vain.
func (x *extraction) read(ctx context.Context, stop func(), layers []layer, log *slog.Logger) error {
	var begun sync.WaitGroup
	defer begun.Wait()
	defer stop()

	readings := make([]*reading, len(layers))
	for i, l := range layers {
		readings[i] = &reading{x: x, layer: l, number: i + 1, turn: make(chan struct{}), decided: make(chan error, 1)}
	}
	ended := make(chan struct{}, len(layers))
	next, running := len(layers)-1, 0
	for top := next; top >= 0 && !x.complete(); top-- {
		r := readings[top]
		close(r.turn)
		for waiting := true; waiting; {
			for next >= 0 && (next == top || running < streams() && mayBegin(layers, top, next) && !anySum(readings[next+1:top+1])) {
				begin := readings[next]
				begun.Go(func() { begin.run(ctx, ended) })
				next--
				running++
			}
			select {
			case <-ended:
				running--
			case err := <-r.decided:
				if err != nil {
					return err
				}
				waiting = false
			}
		}
		x.left -= r.unpacked
		x.seen.addAll(r.seen)
		log.Info("layer read", "layer", r.number, "of", len(layers), "unpackedBytes", x.scanned(), "takenBytes", x.bytes)
	}
	return nil
}

// streams is how many layers are read at once: one for each processor, and two where there is one, since registries keep one waiting. Each takes memory.
func streams() int { return min(max(runtime.GOMAXPROCS(0), 2), 4) }

// mayBegin says whether to begin reading layer next while top is the highest of those that are not decided. Of what was asked for, two thirds may
// turn out not to be needed: so the small layer with the migrations does not cost a transfer of the large ones beneath, but layers
// of about one size are read together.
func mayBegin(layers []layer, top, next int) bool {
	var needed, ahead int64
	for i, l := range layers[next:] {
		if next+i < top {
			ahead += l.size
		} else {
			needed += l.size
		}
	}
	return ahead <= max(alwaysAhead, 2*needed)
}

// anySum says whether a layer among these has a sum file: then chances are that none beneath is needed.
func anySum(readings []*reading) bool {
	for _, r := range readings {
		if r.hasSum.Load() {
			return true
		}
	}
	return false
}

// run reads the layer, ahead of its turn if that has not come, and sends to ended when it needs no more of network and processor.
func (r *reading) run(ctx context.Context, ended chan<- struct{}) {
	r.seen, r.buffer = seen{}, make([]byte, 64<<10)
	select {
	case <-r.turn:
		err := r.read(ctx, r.x.left, r.apply)
		ended <- struct{}{}
		r.decided <- err
		return
	default:
	}
	err := r.read(ctx, r.x.maxScan, r.keep)
	ended <- struct{}{}
	select {
	case <-r.turn:
		r.decided <- r.catchUp(ctx, err)
	case <-ctx.Done():
	}
}

// catchUp does what is left to do when the turn comes of a layer that was read ahead. It gets the error that reading has ended with.
func (r *reading) catchUp(ctx context.Context, ended error) error {
	if _, disk := errors.AsType[*Error](ended); !disk && ended != errPutOff {
		return r.replay(ended)
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
	defer blob.Close()
	src := &source{r: blob, count: &r.x.transferred}
	err = r.unpack(ctx, src, limit, take)
	_, refused := errors.AsType[refusal](err)
	_, disk := errors.AsType[*Error](err)
	if refused || disk || err == errPutOff {
		return err
	}
	// Damage shows first as bad compression or a bad archive. Whether the registry or the image is to blame, the digest tells at the end.
	_, _ = io.Copy(io.Discard, src)
	if src.err != nil {
		return src.err
	}
	if err != nil {
		return refuse("layer %d cannot be unpacked: %v", r.number, err)
	}
	return nil
}

// unpack goes through the layer's archive, or the file that the layer is.
func (r *reading) unpack(ctx context.Context, src io.Reader, limit int64, take taker) error {
	packed := bufio.NewReaderSize(src, 64<<10)
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
	return r.x.apply(e, r.number, func() (*blob, error) { return r.x.stage.add(content, r.buffer) })
}

// keep takes an entry of a layer whose turn has not come.
func (r *reading) keep(e entry, offset int64, content io.Reader) error {
	k := kept{entry: e, offset: offset, cost: int64(keptCost + len(e.at) + len(e.link))}
	if e.isFile() {
		k.cost += e.size
	}
	if r.x.ahead.Add(k.cost) > maxAhead {
		r.x.ahead.Add(-k.cost)
		return errPutOff
	}
	var err error
	if e.isFile() {
		k.blob, err = r.x.stage.add(content, r.buffer)
	}
	r.kept = append(r.kept, k)
	return err
}

// replay applies what was kept, as if the layer were only being read now. It gets the error that reading has ended with, and returns the one that would have come first.
func (r *reading) replay(ended error) error {
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
		if err == errUnread {
			break
		}
		if err != nil {
			return err
		}
		if k.blob != nil && !used {
			if err := r.x.stage.remove(k.blob); err != nil {
				return err
			}
		}
		r.x.ahead.Add(-k.cost)
	}
	r.kept = nil
	if r.unpacked > r.x.left {
		return r.x.full()
	}
	return ended
}

// forget drops what was kept.
func (r *reading) forget() error {
	for _, k := range r.kept {
		r.x.ahead.Add(-k.cost)
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
