# Two commands for a newcomer: `make demo` and `make test`. Everything else is for those who work on it.
.PHONY: all demo test bench clean
all:
	@tools/setup build cosched
	@test -f build/build.ninja || meson setup build
	@ninja -C build
demo:
	@tools/setup build demo
	@tools/demo
test:
	@tools/setup build cosched demo test
	@tools/test
bench:
	@tools/setup build cosched demo test
	@tools/bench
clean:
	rm -rf build build-*
