# Two commands for a newcomer: `make demo` and `make test`. Everything else is for those who work on it.
.PHONY: all demo test bench clean
all:
	@test -d build || meson setup build
	@ninja -C build
demo:
	@tools/demo
test:
	@tools/test
bench:
	@tools/bench
clean:
	rm -rf build build-*
