module ckt.local

go 1.26
