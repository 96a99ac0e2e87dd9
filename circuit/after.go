package circuit

// after is what remains to be done outside the mutex after an update.
type after struct {
	flush    *attachment
	direct   bool  // by whoever carries it out
	job      write // the first one then
	read     *attachment
	gone     *attachment
	reattach bool
	ack      *attachment
	ask      urgency
	keep     bool
	pump     bool
	wakePump bool
	remove   bool
	release  bool
	dropped  int
	want     *attachment // is to say what it waits for
	finish   bool

	freeIn, freeOut int // to be given back
}

// carryOut does what settle has decided.
func (c *Circuit) carryOut(todo *after) {
	if todo.gone != nil {
		todo.gone.abandon()
	}
	if todo.read != nil {
		go todo.read.readLoop() // joined by the link: finished waits for it
	}
	if todo.flush != nil && !todo.direct {
		go todo.flush.run(write{}) // likewise
	}
	if todo.pump {
		go c.pump() // likewise
	}
	if todo.wakePump {
		signal(c.wake)
	}
	if todo.reattach {
		c.reattach(todo.gone.car)
	}
	if todo.keep {
		c.link.keepSoon()
	}
	if todo.ask != noAck {
		todo.ack.car.control.askAck(todo.ack, todo.ask)
	}
	if todo.want != nil {
		todo.want.car.control.say(todo.want.appendWant)
	}
	c.giveBack(todo.freeIn, todo.freeOut)
	if todo.remove || todo.release {
		c.tell(todo)
	}
	if todo.direct {
		todo.flush.tryRun(todo.job)
	}
	if todo.finish {
		c.leaveQueues()
		c.link.finish(c)
	}
}
