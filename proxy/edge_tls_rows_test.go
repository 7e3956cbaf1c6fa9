package proxy_test

import "testing"

// overTLS has clients and endpoints of tests speak TLS; nil: plain HTTP.
var overTLS *keeper

// overUnix has the proxies and the endpoints of tests listen on Unix sockets.
var overUnix bool

// alongside has a test run beside others, unless it is a row of TestEdgeOverTLS or TestEdgeOverUnix: those share the
// variables.
func alongside(t *testing.T) {
	if overTLS == nil && !overUnix {
		t.Parallel()
	}
}

// TestEdgeOverTLS runs rows of the other edge tests over TLS, on both sides of weir: what they say of bytes holds for
// those that a connection carries.
func TestEdgeOverTLS(t *testing.T) {
	for name, test := range rows() {
		t.Run(name, func(t *testing.T) {
			overTLS = newKeeper(t)
			defer func() { overTLS = nil }()
			test(t)
		})
	}
}

// rows are tests of what happens to bytes, whatever carries them.
func rows() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"TestEdgeBodyThatNeverCame": TestEdgeBodyThatNeverCame, "TestEdgeSmallBodyRefusedKeepsTheConnection": TestEdgeSmallBodyRefusedKeepsTheConnection,
		"TestEdgeInterimResponses": TestEdgeInterimResponses, "TestEdgeInterimOnly": TestEdgeInterimOnly, "TestEdgeBodyWhereNoneBelongs": TestEdgeBodyWhereNoneBelongs,
		"TestEdgeGarbageInChunks": TestEdgeGarbageInChunks, "TestEdgeResponseCutAnywhere": TestEdgeResponseCutAnywhere, "TestEdgeResponseTrailers": TestEdgeResponseTrailers,
		"TestEdgeEarlyResponse": TestEdgeEarlyResponse,
		"TestEdgePipelining":    TestEdgePipelining, "TestEdgePipelineEndsAtAnError": TestEdgePipelineEndsAtAnError,
		"TestEdgeErrorsKeepTheConnection": TestEdgeErrorsKeepTheConnection, "TestEdgeHTTP10Clients": TestEdgeHTTP10Clients,
		"TestEdgeExpectContinue": TestEdgeExpectContinue, "TestEdgeKeepAliveReuse": TestEdgeKeepAliveReuse,
		"TestEdgeCompressCut": TestEdgeCompressCut, "TestEdgeHeadersNearTheBuffer": TestEdgeHeadersNearTheBuffer, "TestEdgeTinyChunksTravelTogether": TestEdgeTinyChunksTravelTogether,
		"TestEdgeRequestTrailerIsPassedOn": TestEdgeRequestTrailerIsPassedOn, "TestEdgeBodyOfAnyMethod": TestEdgeBodyOfAnyMethod,

		"TestEdgeInspectedChunks": TestEdgeInspectedChunks, "TestEdgeInspectedEarlyAnswer": TestEdgeInspectedEarlyAnswer,
		"TestEdgeOversizeHead": TestEdgeOversizeHead, "TestEdgeOversizeBody": TestEdgeOversizeBody,
		"TestEdgeSlowBody":                TestEdgeSlowBody,
		"TestEdgeEndpointTimeouts":        TestEdgeEndpointTimeouts,
		"TestEdgeEndpointConnectionLimit": TestEdgeEndpointConnectionLimit, "TestEdgePoisonAfterBody": TestEdgePoisonAfterBody, "TestEdgeCloseOnArrival": TestEdgeCloseOnArrival, "TestEdgeNoRetryStorm": TestEdgeNoRetryStorm,

		"TestEdgeEventsArrive": TestEdgeEventsArrive, "TestEdgeChunksArrive": TestEdgeChunksArrive,

		"TestEdgePanic": TestEdgePanic, "TestEdgeBulkBodies": TestEdgeBulkBodies,
		"TestEdgeTunnelIsExact": TestEdgeTunnelIsExact, "TestEdgeUpgrade": TestEdgeUpgrade,
	}
}

// TestEdgeOverUnix runs the rows with Unix sockets on both sides.
func TestEdgeOverUnix(t *testing.T) {
	for name, test := range rows() {
		t.Run(name, func(t *testing.T) {
			overUnix = true
			defer func() { overUnix = false }()
			test(t)
		})
	}
}
