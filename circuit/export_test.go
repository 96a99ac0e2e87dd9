package circuit

// Leftover is how many circuits the link still knows, closed ones included.
func (l *Link) Leftover() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.circuits)
}
