/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Macros of foreign headers, told to cppcheck, which does not read system headers. Never compiled. */
#define json_array_foreach(array, index, value) \
	for (index = 0; index < json_array_size(array) && (value = json_array_get(array, index)); index++)
#define json_object_foreach(object, key, value) \
	for (key = first_key(object); key && (value = json_object_get(object, key)); key = next_key(object, key))
#define json_object_foreach_safe(object, n, key, value) json_object_foreach(object, key, value)
#define JSON_INTEGER_FORMAT "lld"
