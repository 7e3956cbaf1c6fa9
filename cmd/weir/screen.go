package main

// plainWidth is the width of what is not written to a terminal.
const plainWidth = 80

// terminal reports whether stdout shows to a person, on something that knows more than lines.
func (c *cli) terminal() bool { return isTerminal(c.stdout) && c.getenv("TERM") != "dumb" }

func (c *cli) colours() bool { return c.getenv("NO_COLOR") == "" && c.terminal() }

// inPlace reports whether a picture can be drawn over the one before.
func (c *cli) inPlace() bool { return c.terminal() && c.output != "json" && c.output != "yaml" }

// size is that of the terminal; where that is unknown, a width that suits all and no end of lines.
func (c *cli) size() (width, height int) {
	width, height = terminalSize(c.stdout)
	if width <= 0 {
		width = plainWidth
	}
	return width, height
}

func (c *cli) width() int {
	width, _ := c.size()
	return width
}
