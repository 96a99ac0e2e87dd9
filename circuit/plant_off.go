//go:build !plant

package circuit

// planted reports whether a bug is to be there. In what ships it is none: the
// compiler leaves out what depends on it.
func planted(bug) bool { return false }

// A plant is what planted bugs keep with an attachment.
type plant struct{}

func (*plant) hold(it item) item { return it }
