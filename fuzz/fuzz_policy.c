/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzes the policy: an input is a policy's text and, behind a line "===", that of the daemon's overlay. Whatever it
 * says, it is refused with a message or is a whole policy: it can be copied, is no different from its copy, and knows a
 * class for every ioprio.
 */
#include "check.h"

#include "policy/policy.h"

#include <string.h>

static void use(const struct policy *p)
{
	struct policy *copy = policy_copy(p);
	struct policy_changes changes;

	CHECK(copy);
	CHECK(policy_diff(p, copy, &changes) == 0 && changes.n == 0);
	policy_changes_fini(&changes);
	CHECK(policy_diff(NULL, copy, &changes) == 0);
	policy_changes_fini(&changes);
	for (size_t i = 0; i < copy->n_vms; i++) {
		const struct policy_vm *vm = &copy->vms[i];

		for (unsigned ioprio = 0; ioprio < 65536; ioprio += 97)
			CHECK(policy_class_of(vm, (uint16_t)ioprio) < vm->n_classes);
		for (size_t j = 0; j < vm->n_disks; j++)
			CHECK(vm->disks[j].pool >= 0 && (size_t)vm->disks[j].pool < copy->n_pools &&
			      vm->disks[j].socket);
	}
	policy_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *overlay;
	struct policy_source s[2] = { { .name = (char *)"main.yaml" },
				      { .name = (char *)"overlay.yaml", .overlay = true } };
	struct policy_diagnostics diag = { 0 };
	struct policy *p = NULL;
	int r;

	CHECK(text);
	memcpy(text, data, size);
	text[size] = '\0';
	overlay = strstr(text, "\n===\n");
	if (overlay)
		overlay[1] = '\0';
	s[0].text = text;
	s[1].text = overlay ? overlay + 5 : NULL;
	r = policy_load_sources(s, overlay ? 2 : 1, &p, &diag);
	CHECK(r == 0 ? p != NULL && diag.n_errors == 0 : p == NULL && diag.n_errors > 0);
	for (size_t i = 0; i < diag.n; i++) {
		char *line = policy_diagnostic_text(&diag.d[i]);

		CHECK(line);
		free(line);
	}
	if (p)
		use(p);
	policy_free(p);
	policy_diagnostics_fini(&diag);
	free(text);
	return 0;
}
