/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether bytes are text: for those that read files before a parser sees them. Pure.
 */
#pragma once

#include <stddef.h>

/* Bytes of the UTF-8 character at `p`, of `left` > 0; 0: it is none, or a control character other than tab and line ends. */
size_t utf8_character(const char *p, size_t left);

/* Puts '?' in the place of every byte that belongs to no such character: of one cut in two, for instance. */
void utf8_clean(char *text);
/* For a line on a terminal or in a log: of any other control character, and of line ends, too. */
void utf8_clean_line(char *text);
