package main

import (
	"math"
	"math/rand/v2"

	"weir/backend/models"
)

const classes = 10

// network is a stack of dense layers: ReLU between them, softmax behind the last.
type network []*layer

// layer computes in·weights + bias. weights are row-major, a row for each input.
type layer struct {
	in, out       int
	weights, bias []float32
	// values are the outputs of the last forward pass, errors the loss's gradient by them.
	values, errors []float32
}

// plan says how a model is trained. Equal plans on equal images give equal networks.
type plan struct {
	hidden []int // widths of the hidden layers
	images int   // how many images of the training set are used, from its beginning; 0 is all
	epochs int
	rate   float64 // learning rate of the first step; it falls to zero along a straight line
	seed   uint64
}

// train fits a network by stochastic gradient descent on the cross-entropy, an image a step.
//
// It runs on one goroutine, and every product is rounded to float32 before it is added: a
// compiler that fuses the two (other processors, other GOAMD64) would give other bits.
func train(p plan, images []models.LabelledImage) network {
	if p.images > 0 {
		images = images[:min(p.images, len(images))]
	}
	chance := rand.New(rand.NewPCG(p.seed, 0))
	net := newNetwork(p.hidden, chance)
	steps := p.epochs * len(images)
	for step := 0; step < steps; {
		for _, i := range chance.Perm(len(images)) {
			rate := p.rate * (1 - float64(step)/float64(steps))
			net.learn(images[i].Features(), images[i].Label, float32(rate))
			step++
		}
	}
	return net
}

func newNetwork(hidden []int, chance *rand.Rand) network {
	var net network
	in := models.Pixels
	for _, out := range append(append([]int(nil), hidden...), classes) {
		l := &layer{in: in, out: out, weights: make([]float32, in*out), bias: make([]float32, out),
			values: make([]float32, out), errors: make([]float32, out)}
		spread := math.Sqrt(2 / float64(in)) // He's initialisation, for ReLU
		for i := range l.weights {
			l.weights[i] = float32(chance.NormFloat64() * spread)
		}
		net = append(net, l)
		in = out
	}
	return net
}

// forward returns the probabilities of the classes. They are valid until the next call.
func (net network) forward(x []float32) []float32 {
	for n, l := range net {
		copy(l.values, l.bias)
		for i, v := range x {
			if v == 0 {
				continue // more than half of the pixels
			}
			for j, w := range l.weights[i*l.out : (i+1)*l.out] {
				l.values[j] += float32(v * w)
			}
		}
		if n < len(net)-1 {
			for j, v := range l.values {
				l.values[j] = max(v, 0)
			}
		}
		x = l.values
	}
	softmax(x)
	return x
}

func softmax(x []float32) {
	top := x[0]
	for _, v := range x {
		top = max(top, v)
	}
	var sum float64
	for i, v := range x {
		e := math.Exp(float64(v - top))
		x[i] = float32(e)
		sum += e
	}
	for i, v := range x {
		x[i] = float32(float64(v) / sum)
	}
}

// learn is one step of the descent.
func (net network) learn(x []float32, label int, rate float32) {
	last := net[len(net)-1]
	copy(last.errors, net.forward(x))
	last.errors[label]--
	for n := len(net) - 1; n >= 0; n-- {
		l, in := net[n], x
		if n > 0 {
			in = net[n-1].values
			net[n-1].blame(l)
		}
		l.adjust(in, rate)
	}
}

// blame passes the errors of the layer behind it on to l, through its ReLU.
func (l *layer) blame(behind *layer) {
	for i, v := range l.values {
		var sum float32
		if v > 0 {
			for j, w := range behind.weights[i*behind.out : (i+1)*behind.out] {
				sum += float32(w * behind.errors[j])
			}
		}
		l.errors[i] = sum
	}
}

func (l *layer) adjust(in []float32, rate float32) {
	for j, e := range l.errors {
		l.bias[j] -= float32(rate * e)
	}
	for i, v := range in {
		if v == 0 {
			continue
		}
		row := l.weights[i*l.out : (i+1)*l.out]
		for j, e := range l.errors {
			row[j] -= float32(float32(rate*v) * e)
		}
	}
}

// accuracy is the part of the images, 0 to 1, whose most probable class is their label.
func (net network) accuracy(images []models.LabelledImage) float64 {
	right := 0
	for _, i := range images {
		best, p := 0, net.forward(i.Features())
		for class := range p {
			if p[class] > p[best] {
				best = class
			}
		}
		if best == i.Label {
			right++
		}
	}
	return float64(right) / float64(len(images))
}
