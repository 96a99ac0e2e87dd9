package main

func (r *report) writeFolder(dir string) error { return nil }
