package control

import (
	"go.uber.org/zap"
	"weir/proxy"
)

// PurgeCache forgets what the cache of a route keeps: all of it, or what was answered at a path, with below also
// at paths under it. It returns the route, and how many answers there were. That is no change of routing: it
// makes no generation.
func (c *Controller) PurgeCache(route, path string, below bool, o Change) (proxy.RouteStatus, int, error) {
	leave, err := c.enter()
	if err != nil {
		return proxy.RouteStatus{}, 0, err
	}
	defer leave()
	if err := c.checkRoute(route, o.Expect)(); err != nil {
		return proxy.RouteStatus{}, 0, err
	}
	n, err := c.proxy.PurgeCache(route, path, below)
	if err != nil {
		return proxy.RouteStatus{}, 0, err
	}
	c.log.Info("cache purged", zap.String("route", route), zap.String("path", path), zap.Bool("below", below), zap.Int("answers", n),
		zap.String("reason", o.Reason), zap.String("by", o.By))
	r, _ := c.Route(route)
	return r, n, nil
}
