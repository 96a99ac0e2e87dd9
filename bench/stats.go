package main

import (
	"math"
	"slices"
	"time"
)

// percentile of samples in ascending order: the smallest that p per cent of
// them do not exceed; 0 of none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(p/100*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// median of values in any order, NaN of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid]
	}
	return (s[mid-1] + s[mid]) / 2
}

// spread is how much more the largest is than the smallest, as a share of it;
// 0 of less than two.
func spread(values []float64) float64 {
	if len(values) < 2 {
		return 0
	}
	low, high := slices.Min(values), slices.Max(values)
	if low <= 0 {
		return math.Inf(1)
	}
	return high/low - 1
}

// ratio of two values, NaN if it means nothing.
func ratio(a, b float64) float64 {
	if b == 0 || math.IsNaN(a) || math.IsNaN(b) {
		return math.NaN()
	}
	return a / b
}
