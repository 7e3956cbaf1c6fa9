// Package plot draws the charts of weir-bench's reports as SVG: lines over time or over
// percentiles, and horizontal bars with whiskers.
//
// A page that shows them holds [Style] in a style element; with [Script] in a script element
// besides, lines say their values under the pointer. Nothing is fetched from elsewhere, colours
// follow the reader's choice of light or dark, and a chart without values says so.
package plot
