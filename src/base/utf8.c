/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/utf8.h"

#include <string.h>

size_t utf8_character(const char *text, size_t left)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n = p[0] < 0x80			 ? 1
		   : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
		   : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
		   : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
						 : 0;

	if (n > left || (n == 1 && ((p[0] < ' ' && !strchr("\t\n\r", p[0])) || p[0] == '\0' || p[0] == 0x7f)))
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates and what is past the last character. */
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] >= 0x90))
		return 0;
	return n;
}

void utf8_clean(char *text)
{
	size_t left = strlen(text);

	while (left > 0) {
		size_t n = utf8_character(text, left);

		if (n == 0) {
			*text = '?';
			n = 1;
		}
		text += n;
		left -= n;
	}
}

void utf8_clean_line(char *text)
{
	utf8_clean(text);
	for (unsigned char *p = (unsigned char *)text; *p; p++) {
		if (*p < ' ') {
			*p = '?';
		} else if (*p == 0xc2 && p[1] < 0xa0) {
			/* U+0080 to U+009F, which some terminals obey. */
			p[0] = p[1] = '?';
			p++;
		}
	}
}
