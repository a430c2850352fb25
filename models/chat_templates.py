"""Records what `transformers` makes of chat templates, for the tests of `runtime/text`.

    pip install transformers==4.57.6 jinja2==3.1.6 && python models/chat_templates.py runtime/text/src/chat/templates.json

`FEATURES` are templates of one construct each, rendered with one conversation; `chat_families.FAMILIES` are templates in the manner of
published ones, written for this project, each rendered with all of `chat_families.CONVERSATIONS`. An entry has the text, or what
the template said with `raise_exception`, or that Python fails. Dates are of the format alone, at moments in universal time.
"""

import datetime
import json
import re
import sys

import jinja2
import transformers
from chat_families import CONVERSATIONS, FAMILIES, TOOLS
from transformers.utils.chat_template_utils import render_jinja_template

assert (transformers.__version__, jinja2.__version__) == ("4.57.6", "3.1.6")

# Special tokens as `special_tokens_map` has them; there is no `unk_token`.
TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "additional_special_tokens": ["<|x|>", "<|y|>"],
}

DATA = {
    "yes": True,
    "no": False,
    "none": None,
    "int": 7,
    "big": 12345678901234567890,
    "negative": -3,
    "floats": [0.1, 1.0, -2.5, 1e16, 1e22, 1.5e-7, 0.0001, 123456789.125, 100.0],
    "words": ["b", "a", "C", "b"],
    "nested": {"z": [1, {"y": None}], "a": {"q": True, "b": "it's"}, "e": [], "m": {}},
    "text": "  Hello <b>World</b> & 'you' \"there\" é愛🎭  ",
    "lines": "one\ntwo\r\nthree\n",
    "empty": "",
    "people": [{"name": "Bo", "age": 3, "on": True}, {"name": "al", "age": 1, "on": False}, {"name": "Cy", "age": 3}],
    "control": "a\tb\\c\u2028\x7f\x01/",
}

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What's 1 < 2 & \"é\"? \n", "name": "ann"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2, "metric": True, "at": None}},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": '{"t": 3.50}'},
    {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "image"}, {"type": "text", "text": "now?"}]},
]

# One to a line; the first words say what it is about.
FEATURES = """
tools absent|{{ absent }}{{ absent is defined }}{{ absent is none }}
bool output|{{ true }} {{ false }} {{ True }} {{ False }} {{ data.yes }} {{ data.no }}
none output|{{ none }} {{ None }} {{ data.none }}
int output|{{ 7 }} {{ data.int }} {{ data.negative }} {{ data.big }} {{ data.big + 1 }} {{ 2 ** 70 }}
float output|{% for f in data.floats %}{{ f }} {% endfor %}{{ 1.50 }} {{ 3e0 }} {{ 10 / 4 }} {{ 8 / 2 }}
float extremes|{{ 1e300 * 1e10 }} {{ 1e-5 }} {{ 0.1 + 0.2 }} {{ -0.0 }} {{ 1e15 }} {{ 123456789012345680.0 }}
list output|{{ [1, 'a', none, true, 1.0, [], {}] }} {{ data.words }}
dict output|{{ {'a': 1, 'b': [true, none], 3: "x'y"} }} {{ data.nested }}
tuple output|{{ (1, 2) }} {{ (1,) }} {{ () }} {{ ('a', none) }}
string repr|{{ ["it's", 'say "x"', 'both \\' and "', '\\n\\t\\\\', 'é愛', '\\x7f'] }} {{ [data.control] }}
undefined output|[{{ nothing }}] [{{ data.nothing }}] [{{ messages[0].nothing }}] [{{ nothing ~ 'x' }}]
undefined in lists|{{ [nothing] }}
undefined chain fails|{{ nothing.at.all }}
undefined index fails|{{ data.missing.key }}
undefined call fails|{{ nothing() }}
undefined arithmetic fails|{{ nothing + 1 }}
undefined concatenated fails|{{ 'x' + nothing }}
undefined compared|{{ nothing == none }} {{ nothing == '' }} {{ nothing is none }} {{ not nothing }} {{ nothing == nothing }}
undefined iterated|{% for x in nothing %}x{% else %}none{% endfor %}{{ nothing | length }}{{ nothing | list }}
undefined in a test|{{ 'a' in (nothing or []) }}{{ nothing is defined }}{{ nothing is undefined }}
none attribute is undefined|[{{ data.none.x }}] [{{ none.x is defined }}] {{ data.none['x'] is defined }}
concatenation|{{ 1 ~ 'a' ~ true ~ none ~ 1.0 ~ [1, 'b'] }}
string plus int fails|{{ 'a' + 1 }}
list plus|{{ [1] + [2, 3] }} {{ (1,) + (2,) }}
string times|{{ 'ab' * 3 }} {{ 2 * 'x' }} {{ [0] * 3 }}
arithmetic|{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}
precedence|{{ 1 + 2 * 3 ** 2 }} {{ -2 ** 2 }} {{ (1 + 2) * 3 }} {{ not 1 == 2 }} {{ 1 if 0 else 2 if 0 else 3 }}
filters bind tightly|{{ 'a' ~ 'b' | upper }} {{ -1 | abs }} {{ 1 + -2 | abs }} {{ 'a,b' | replace(',', '-') ~ '!' }}
bool arithmetic|{{ true + 1 }} {{ true == 1 }} {{ [true] == [1] }} {{ 1.0 == 1 }}
division by zero fails|{{ 1 / 0 }}
comparison chain|{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }}
compare mixed fails|{{ 1 < 'a' }}
and or values|{{ 0 or 'x' }} {{ 'a' and 'b' }} {{ '' or none }} {{ [] or {} }} {{ 1 and 0 }}
in operator|{{ 'a' in 'cat' }} {{ 1 in [1] }} {{ 'k' in {'k': 0} }} {{ 2 not in [1] }} {{ 'x' in data.nested }} {{ 'role' in messages[0] }}
in an int fails|{{ 'a' in 5 }}
in none fails|{{ 'a' in none }}
conditional without else|[{{ 'x' if false }}] [{{ 'x' if true }}]
string escapes|{{ 'a\\nb' }} {{ "q\\"q" }} {{ 'x\\\\y' }} {{ '\\u00e9' }} {{ '\\x41' }}
adjacent strings|{{ 'a' 'b' "c" }}
slices of lists|{{ data.words[1:] }} {{ data.words[:-1] }} {{ data.words[::-1] }} {{ data.words[::2] }} {{ data.words[5:] }} {{ data.words[-2:] }}
slices of strings|{{ 'abcdé'[1:3] }} {{ 'abcdé'[-1] }} {{ 'abcdé'[::-1] }} {{ 'abc'[:100] }} {{ 'é愛🎭'[1] }}
index out of range|[{{ data.words[9] }}] [{{ data.words[-9] is defined }}] {{ 'abc'[7] is defined }}
negative index|{{ data.words[-1] }} {{ messages[-1].role }} {{ (1, 2, 3)[-2] }}
item and attribute|{{ messages[0]['role'] }} {{ messages[0].role }} {{ data['int'] }} {{ data.words.0 }}
dict named like a method|{{ {'items': 1}['items'] }} {{ {'get': 2}.get('get') }} {{ {'keys': 5}['keys'] }}
dict items|{% for k, v in data.nested.items() %}{{ k }}={{ v }};{% endfor %}
dict keys and values|{{ data.nested.keys() | list }} {{ {'b': 1, 'a': 2}.values() | list }} {{ data.nested | length }}
dict keys output|{{ {'b': 1}.keys() }} {{ {'b': 1}.items() }} {{ {'b': 1}.values() }}
dict get|{{ data.get('int') }} {{ data.get('nope') }} {{ data.get('nope', 'd') }} {{ data.get('none', 'd') }}
dict iteration keeps order|{% for k in data.nested %}{{ k }} {% endfor %}{{ data.nested | list }}
dict update is refused|{% set d = {'a': 1} %}{{ d.update({'b': 2}) }}
list append is refused|{% set l = [] %}{{ l.append(1) }}
list methods|{{ data.words.count('b') }} {{ data.words.index('a') }}
list copy|{{ data.words.copy() }} {{ data.nested.copy() }}
strip family|[{{ data.text.strip() }}] [{{ data.text.lstrip() }}] [{{ data.text.rstrip() }}] [{{ 'xxaxx'.strip('x') }}] [{{ 'abc'.lstrip('ab') }}]
strip of unicode spaces|[{{ '\\u00a0\\u3000a\\x1c\\u200b'.strip() }}] [{{ '\\x1fb\\x85' | trim }}]
split|{{ 'a b  c'.split() }} {{ 'a,b,,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a-b-c'.rsplit('-', 1) }}
split with keywords|{{ 'a b c'.split(maxsplit=1) }} {{ 'a,b,c'.split(sep=',', maxsplit=1) }} {{ ' a  b '.split(None, 1) }}
splitlines|{{ data.lines.splitlines() }} {{ 'a\\r\\n\\rb\\n'.splitlines(true) }} {{ 'a\\x0bb\\u2028c\\x1dd'.splitlines() }}
replace method|{{ 'aaa'.replace('a', 'b') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'ab'.replace('', '-') }}
find methods|{{ 'é愛a'.find('a') }} {{ 'abc'.find('z') }} {{ 'abca'.rfind('a') }} {{ 'abc'.index('c') }} {{ 'abab'.find('a', 1) }}
startswith|{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.startswith('b', 1) }}
case methods|{{ 'heLLo wOrld'.title() }} {{ 'heLLo'.capitalize() }} {{ 'ß'.upper() }} {{ 'É'.lower() }} {{ "they're".title() }} {{ 'aB'.swapcase() }} {{ 'ẞ'.casefold() }}
is methods|{{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ 'aé'.isalpha() }} {{ ' '.isspace() }} {{ 'AB'.isupper() }} {{ '²'.isdigit() }} {{ '½'.isnumeric() }} {{ '½'.isdigit() }} {{ '²'.isdecimal() }} {{ ''.isalpha() }}
more string methods|{{ 'a'.center(5) }}|{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}|{{ '7'.zfill(3) }}|{{ 'a=b=c'.partition('=') }}|{{ 'a=b=c'.rpartition('=') }}
prefixes|{{ 'abc'.removeprefix('ab') }} {{ 'abc'.removesuffix('bc') }} {{ 'abc'.removeprefix('x') }}
join method|{{ ', '.join(['a', 'b']) }} {{ ''.join(data.words) }} {{ '-'.join('abc') }}
join of ints fails|{{ ','.join([1, 2]) }}
count method|{{ 'banana'.count('an') }} {{ 'aaa'.count('aa') }} {{ 'ab'.count('') }}
format method|{{ '{} and {}'.format(1, 'b') }} {{ '{0}{1}{0}'.format('a', 'b') }} {{ '{x:>4}'.format(x=7) }} {{ '{:.2f}'.format(3.14159) }}
encode fails or differs|{{ 'é'.encode('utf-8') | length }}
percent operator|{{ '%s and %s' % ('a', 1) }} {{ '%d%%' % 50 }} {{ '%.2f' % 3.14159 }} {{ '%s' % 'x' }} {{ '%5s|%-5s|' % ('a', 'b') }} {{ '%s' % true }}
percent with a mapping|{{ '%(a)s-%(b)d' % {'a': 'x', 'b': 2} }}
percent filter|{{ '%s, %s!' | format('a', 'b') }} {{ '%s' | format(none) }} {{ '%r' | format('a') }}
percent with a list|{{ '%s' % [1, 2] }}
tojson scalars|{{ true | tojson }} {{ none | tojson }} {{ 1.0 | tojson }} {{ 7 | tojson }} {{ 'é<b>&\\'"' | tojson }} {{ data.floats | tojson }}
tojson keeps order|{{ data.nested | tojson }} {{ tools | tojson }}
tojson indent|{{ data.nested | tojson(indent=2) }} {{ tools[0] | tojson(indent=4) }}
tojson positional|{{ ['é'] | tojson(true) }} {{ {'a': 1} | tojson(false, 2) }}
tojson ensure_ascii|{{ 'é愛🎭\\n' | tojson(ensure_ascii=true) }} {{ 'é愛🎭' | tojson(ensure_ascii=False) }}
tojson separators|{{ data.nested | tojson(separators=(',', ':')) }} {{ [1, 2] | tojson(separators=(', ', ': '), indent=1) }}
tojson sort_keys|{{ data.nested | tojson(sort_keys=true) }}
tojson indent zero|{{ [1, {'a': 2}] | tojson(indent=0) }} {{ [] | tojson(indent=2) }} {{ {} | tojson(indent=2) }}
tojson indent text|{{ [1] | tojson(indent='\\t') }} {{ [1] | tojson(indent=none) }}
tojson control|{{ data.control | tojson }} {{ data.control | tojson(ensure_ascii=true) }}
tojson keys|{{ {1: 'a', true: 'b', none: 'c', 1.5: 'd'} | tojson }}
tojson tuple|{{ (1, 'a') | tojson }} {{ [nothing is defined] | tojson }}
tojson extremes|{{ (1e300 * 1e10) | tojson }} {{ data.big | tojson }} {{ 1e16 | tojson }} {{ 1e-7 | tojson }}
tojson of undefined fails|{{ nothing | tojson }}
tojson unknown argument fails|{{ 1 | tojson(color=1) }}
string filter|{{ 1 | string ~ (true | string) ~ (none | string) ~ ([1, 'a'] | string) }} {{ 1.0 | string | length }}
int and float filters|{{ '12' | int }} {{ '1.9' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ '3.5' | float }} {{ 3 | float }} {{ '0x1f' | int(0, 16) }} {{ 2.9 | int }}
length filters|{{ 'é愛' | length }} {{ [1, 2] | count }} {{ data | length > 3 }} {{ messages | length }}
case filters|{{ 'heLLo wOrld' | upper }} {{ 'HeLLo' | lower }} {{ 'heLLo wOrld' | capitalize }} {{ "it's a-b c" | title }}
trim filter|[{{ data.text | trim }}] [{{ '..a..' | trim('.') }}] [{{ 5 | trim }}] [{{ '\\n a \\t' | trim }}]
default filter|{{ nothing | default('d') }} {{ '' | default('d') }} {{ '' | default('d', true) }} {{ none | default('d') }} {{ nothing | d }} {{ none | default('e', boolean=true) }}
first and last|{{ data.words | first }} {{ data.words | last }} {{ 'abc' | first }} [{{ [] | first }}]
join filter|{{ data.words | join }} {{ data.words | join(', ') }} {{ [1, true, none] | join('-') }} {{ data.people | join(', ', attribute='name') }} {{ data.people | map(attribute='name') | join('+') }}
sort filter|{{ data.words | sort }} {{ data.words | sort(reverse=true) }} {{ data.words | sort(case_sensitive=true) }} {{ data.people | sort(attribute='age') | map(attribute='name') | list }}
unique and reverse|{{ data.words | unique | list }} {{ data.words | reverse | list }} {{ 'abc' | reverse }}
map filter|{{ data.words | map('upper') | list }} {{ data.people | map(attribute='age') | sum }} {{ data.people | map(attribute='x', default='?') | list }}
select filters|{{ [0, 1, 2, none, ''] | select | list }} {{ [1, 2, 3] | select('odd') | list }} {{ [1, 2, 3] | reject('equalto', 2) | list }}
selectattr|{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ data.people | selectattr('on') | map(attribute='name') | list }} {{ messages | rejectattr('role', '==', 'system') | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'in', ['tool', 'system']) | map(attribute='role') | list }}
selectattr defined|{{ messages | selectattr('tool_calls', 'defined') | list | length }} {{ data.people | selectattr('on', 'undefined') | map(attribute='name') | list }}
groupby|{% for age, all in data.people | groupby('age') %}{{ age }}:{{ all | map(attribute='name') | join(',') }};{% endfor %}
dictsort and items|{{ data.nested | dictsort | map('first') | list }} {% for k, v in {'b': 1, 'A': 2} | items %}{{ k }}{{ v }}{% endfor %} {{ {'b': 1, 'A': 2} | dictsort }} {{ {'b': 1, 'A': 2} | dictsort(by='value', reverse=true) }}
batch and slice|{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 0) | list }} {{ [1, 2, 3, 4, 5] | slice(2) | list }}
sum min max|{{ [1, 2, 3] | sum }} {{ [3, 1] | min }} {{ [3, 1] | max }} {{ [] | sum }} {{ [1.5, 2] | sum }} {{ [1] | sum(start=5) }}
round and abs|{{ 2.5 | round }} {{ 3.14159 | round(2) }} {{ 2.7 | round | int }} {{ -3 | abs }} {{ 2.1 | round(0, 'ceil') }} {{ 42 | round }}
indent filter|{{ 'a\\nb\\n\\nc' | indent }}|{{ 'a\\nb' | indent(2, true) }}|{{ 'a\\n\\nb' | indent(2, blank=true) }}|{{ 'a\\nb' | indent(width=1, first=true) }}|{{ 'a\\nb' | indent('> ') }}
replace filter|{{ 'a.b.c' | replace('.', '/') }} {{ 'aaa' | replace('a', 'b', 2) }} {{ 5 | replace('5', 'x') }}
list filter|{{ 'abc' | list }} {{ (1, 2) | list }} {{ range(3) | list }} {{ {'a': 1} | list }}
truncate|{{ 'Hello big world' | truncate(9) }} {{ 'Hello big world' | truncate(9, true, '') }} {{ 'short' | truncate(5) }}
wordcount and wordwrap|{{ 'a b c' | wordcount }} {{ 'aa bb cc' | wordwrap(5) }}
center and striptags|[{{ 'a' | center(5) }}] {{ '<b>a</b> c' | striptags }}
escape filters|{{ '<a>&"' | e }} {{ '<b>' | safe }} {{ "'" | escape }} {{ ('<' | e) ~ '<' }} {{ '<a>' | forceescape }}
urlencode|{{ 'a b/é&' | urlencode }} {{ {'a': 1, 'b c': 'd'} | urlencode }}
attr filter|[{{ messages[0] | attr('role') }}] [{{ data | attr('int') }}]
pprint|{{ [1, 'a'] | pprint }} {{ {'b': 1} | pprint }}
xmlattr|<a{{ {'id': 1, 'x': none, 'c': '<'} | xmlattr }}>
filesizeformat|{{ 1300 | filesizeformat }}
random is no function of its input|{{ [1] | random }}
unknown filter fails|{{ 'a' | nope }}
unknown test fails|{{ 'a' is nope }}
unknown method fails|{{ 'a'.nope() }}
tests of types|{{ 1 is number }} {{ 'a' is string }} {{ [] is iterable }} {{ {} is mapping }} {{ [] is sequence }} {{ none is none }} {{ true is boolean }} {{ 1 is integer }} {{ 1.0 is float }} {{ true is number }} {{ 'a' is sequence }} {{ 'a' is iterable }} {{ {} is sequence }} {{ {} is iterable }} {{ true is integer }} {{ 5 is iterable }}
tests of values|{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 'a' is eq 'a' }} {{ 1 is ne 2 }} {{ 1 is lt 2 }} {{ 1 is in [1] }} {{ 'a' is lower }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ 2 is ge 2 }} {{ 'A' is upper }} {{ none is sameas none }} {{ 1 is not odd }}
tests callable and escaped|{{ range is callable }} {{ 'a' is callable }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ 'a' is escaped }}
if chain|{% if data.int > 9 %}a{% elif data.int == 7 %}b{% else %}c{% endif %}
truth values|{% for x in [0, 1, '', 'a', [], [0], {}, {'a': 1}, none, 0.0, false, ()] %}{{ 'T' if x else 'F' }}{% endfor %}
for with else|{% for x in [] %}{{ x }}{% else %}empty{% endfor %}
for with a condition|{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }} {% endfor %}
loop attributes|{% for x in 'abc' %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.cycle('o', 'e') }};{% endfor %}
loop neighbours|{% for x in [1, 2, 3] %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.changed(x) }};{% endfor %}{% for x in [1] %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}
loop unpacks|{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }} {% endfor %}{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}
loop of dict|{% for k in {'b': 1, 'a': 2} %}{{ k }}{% endfor %}{% for c in 'é愛' %}{{ c }}.{% endfor %}
break and continue|{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}
recursive loop|{% for t in [{'n': 1, 'c': [{'n': 2, 'c': []}]}] recursive %}{{ t.n }}{{ loop(t.c) }}{% endfor %}
loop scope|{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}
loop over an int fails|{% for x in 5 %}{{ x }}{% endfor %}
loop over none fails|{% for x in none %}{{ x }}{% endfor %}
if scope|{% if true %}{% set y = 5 %}{% endif %}{{ y }}
namespace|{% set ns = namespace(a=1, b='x') %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{% set ns.c = [1] %}{{ ns.c }}{{ ns.nope is defined }}
namespace from a dict|{% set ns = namespace({'a': 2}) %}{{ ns.a }}{% set ns.a = false %}{{ ns.a }}
set of several|{% set a, b = 1, 'two' %}{{ a }}{{ b }}{% set (c, d) = [3, 4] %}{{ c }}{{ d }}
set block|{% set x %}a {{ 1 }} b{% endset %}[{{ x }}] {{ x | length }} {% set y | upper %}loud{% endset %}{{ y }} {{ x is string }}
set a dict item fails|{% set data.x = 1 %}
macro|{% macro m(a, b='d', c=none) %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c=2) }} {{ m('x', 'y') | upper }} [{{ m() }}]
macro specials|{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{{ m.name }}{% endmacro %}{{ m(1, 2, x=3) }}
macro varargs|{% macro m(a) %}{{ a }}{{ varargs | length }}{{ varargs[0] }}{% endmacro %}{{ m(1, 2, 3) }}
macro sees globals|{% set g = 'G' %}{% macro m() %}{{ g }}{{ messages | length }}{{ bos_token }}{% endmacro %}{{ m() }}{% for i in [1] %}{% set h = 'H' %}{{ m() }}{% endfor %}
macro too many fails|{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
call block|{% macro w(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call w('b') %}in{% endcall %}
call with arguments|{% macro each(l) %}{% for x in l %}{{ caller(x) }}{% endfor %}{% endmacro %}{% call(x) each([1, 2]) %}[{{ x }}]{% endcall %}
recursive macro|{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}
filter block|{% filter upper %}abc {{ 'd' }}{% endfilter %}
with block|{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}[{{ a }}]
raw block|{% raw %}{{ not }} {% this %}{% endraw %}
generation tag|{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}said{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.role }};{% endif %}{% endfor %}
generation scope|{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}
generation marks spaces|a {%- generation -%} b {%- endgeneration -%} c
comments|a{# hidden #}b{#- tight -#} c
autoescape block|{% autoescape true %}{{ '<' }}{% endautoescape %}{{ '<' }}
do is no statement|{% do messages %}
include fails|{% include 'x' %}
import fails|{% import 'x' as x %}
range|{{ range(3) | list }} {{ range(1, 7, 2) | list }} {{ range(3, 0, -1) | list }} {{ range(2) }}
range too long fails|{% for x in range(999999999) %}{% endfor %}
dict function|{{ dict(a=1, b='x') }} {{ dict({'q': 1}, z=2) }}
joiner|{% set j = joiner(', ') %}{% for x in [1, 2, 3] %}{{ j() }}{{ x }}{% endfor %}
cycler|{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}
raise_exception|{{ raise_exception('No, "this" is not: ' ~ messages[0].role) }}
raise in a branch|{% if messages[1].role != 'system' %}{{ raise_exception('first the system') }}{% endif %}
special tokens|{{ bos_token }}{{ eos_token }}{{ pad_token }}[{{ unk_token }}]{{ additional_special_tokens[1] }}{{ unk_token is defined }}
generation prompt|{{ add_generation_prompt }}{% if add_generation_prompt %}A:{% endif %}
tools|{% if tools is not none %}{% for t in tools %}{{ t.function.name }}:{{ t.function.parameters.properties | length }} {% endfor %}{% endif %}{{ tools is defined }}{{ tools | length }}
tools item order|{% for name, p in tools[0].function.parameters.properties.items() %}{{ name }}: {{ p.type }} {% if p.enum is defined %}{{ p.enum | join('|') }}{% endif %};{% endfor %}
documents|{{ documents is none }}{{ documents }}
tool calls|{% for c in messages[2].tool_calls %}{{ c.function.name }}({% for k, v in c.function.arguments.items() %}{{ k }}={{ v | tojson }}{% if not loop.last %}, {% endif %}{% endfor %}){{ c.function.arguments }}{% endfor %}
content of none|[{{ messages[2].content }}] {{ messages[2]['content'] is none }} {{ messages[2].content is string }} {{ messages[2].content or 'nothing' }}
content parts|{% for p in messages[-1].content %}{% if p.type == 'text' %}{{ p.text }}{% elif p['type'] == 'image' %}<img>{% endif %}{% endfor %}{{ messages[-1].content is string }}{{ messages[-1].content is iterable }}
name of a message|{{ messages[1].name }}{{ messages[0].name is defined }}{{ messages[1]['name'] | default('x') }}{{ messages[0].get('name', 'nobody') }}
message output|{{ messages[0] }}
message to json|{{ messages[2] | tojson }} {{ messages | map('tojson') | list | length }}
json text as content|{{ messages[3].content }} {{ messages[3].content | tojson }}
keyword arguments|{{ enable_thinking is defined }}{{ data.int }}{{ thinking | default(false) }}
line of block alone is removed|a
  {% if true %}
  b
  {% endif %}
c
expression keeps its line|a
  {{ 'x' }}
b
trailing newline|text

two trailing newlines|text


signs of whitespace|a  {%- if true -%}  b  {%- endif -%}  c {{- ' d ' -}} e
plus signs|a
  {%+ if true %}b{% endif +%}
c
block after text|a {% if true %}
b{% endif %}
 c
lines of comments|a
  {# note #}
b {# note #}
c
crlf|a\r
{% if true %}\r
b\r
{% endif %}\r
tab before a block|a
\t{% set x = 1 %}
\tb
only a block|{% set x = 1 %}

nested quotes|{{ "a 'b' c" }}{{ 'a "b" c' }}{{ '{{ x }}' }}{{ '%}' }}
unicode names|{% set été = 'hot' %}{{ été }}
numbers|{{ 1_000 }} {{ 0x1F }} {{ 0b11 }} {{ 0o17 }} {{ 1e3 }} {{ 1.5e-3 }}
inline if in a call|{{ ('a' if true else 'b') ~ ('c' if messages else 'd') }}
list with a comma at its end|{{ [1, 2,] }} {{ {'a': 1,} }} {{ (1, 2,) }}
not in and is not|{{ not ('a' in 'b') }} {{ 'a' not in 'b' }} {{ 1 is not none }} {{ nothing is not defined }}
block tag|{% block b %}in{% endblock %}
string compare and length|{{ messages[1].content | length }} {{ messages[1].content.strip() | length }}
filter on a call|{{ messages | map(attribute='role') | unique | join(' ') }} {{ (messages | first).role }}
dict with a variable key|{% set k = 'role' %}{{ {k: 1} }} {{ messages[0][k] }}
call with unpacking|{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }} {{ m(**{'a': 3, 'b': 4}) }} {{ dict(**{'x': 1}) }}
underscore attribute is refused|{{ messages.__class__ }}
attribute of a string is undefined|[{{ 'a'.foo }}] [{{ 5 .foo is defined }}]
method is defined|{{ 'a'.strip is defined }} {{ messages[0].items is defined }} {{ messages[0].get is callable }}
float division output|{{ 7 / 7 }} {{ (7 / 2) | int }} {{ 1 / 3 }}
integer of bool|{{ true | int }} {{ false | float }} {{ true | string }} {{ true ~ '' }}
mixed compare|{{ 1 == '1' }} {{ none == false }} {{ '' == none }} {{ [] == () }} {{ {'a': 1} == {'a': 1} }} {{ 'a' != 'b' }}
set in a macro of namespace|{% set ns = namespace(n=0) %}{% macro m() %}{% set ns.n = ns.n + 1 %}{% endmacro %}{{ m() }}{{ m() }}{{ ns.n }}
loop variable named as outer|{% set m = 'o' %}{% for m in [1] %}{{ m }}{% endfor %}{{ m }}
unterminated fails|{% if true %}a
unknown tag fails|{% nope %}
unbalanced fails|{{ (1 }}
""".strip("\n")


def features():
    """Name and template of each: a line that begins with a name and a bar begins one, others go on."""
    found = []
    for line in FEATURES.split("\n"):
        begins = re.match(r"([a-z][a-z0-9 _]*)\|", line)
        if begins:
            found.append([begins[1], line[begins.end() :]])
        else:
            found[-1][1] += "\n" + line
    return found


def outcome(template, messages, **more):
    try:
        [text], _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=True, **more)
        return {"prompt": text}
    except jinja2.exceptions.TemplateError as error:
        said = type(error) is jinja2.exceptions.TemplateError
        return {"refused": error.message} if said else {"fails": type(error).__name__}
    except (TypeError, ValueError, OverflowError, ZeroDivisionError, AttributeError, KeyError) as error:
        return {"fails": type(error).__name__}


def dates():
    moments = [0, 951_825_599, 1_721_952_000, 1_735_689_600, 4_107_542_400]
    formats = ["%d %b %Y", "%Y-%m-%d", "%A, %B %d, %Y", "%a %b %d %H:%M:%S", "%I:%M %p", "%j %U %W %u %w", "%y%%%m", "%-d %B", "%e", "%F %T", "%D %R", "%x %X %c", "%G-W%V", "%C %h %n%t"]
    for moment in moments:
        for form in formats:
            time = datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).replace(tzinfo=None)
            yield {"seconds": moment, "format": form, "text": time.strftime(form)}


def main(file):
    chosen = features()
    assert len({name for name, _ in chosen}) == len(chosen)
    more = {"tools": TOOLS, "data": DATA, **TOKENS}
    table = {
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "tokens": TOKENS,
        "data": DATA,
        "tools": TOOLS,
        "conversation": CONVERSATION,
        "features": [{"name": n, "template": t, **outcome(t, CONVERSATION, **more)} for n, t in chosen],
        "conversations": CONVERSATIONS,
        "families": [],
        "dates": list(dates()),
    }
    for name, template in FAMILIES.items():
        cases = {}
        for key, chat in CONVERSATIONS.items():
            tools = TOOLS if chat["tools"] else None
            cases[key] = outcome(template, chat["messages"], tools=tools, **TOKENS, **chat.get("more", {}))
        table["families"].append({"name": name, "template": template, "cases": cases})
    with open(file, "w") as out:
        json.dump(table, out, ensure_ascii=False, indent=1)
        out.write("\n")
    kinds = [next(k for k in ("prompt", "refused", "fails") if k in f) for f in table["features"]]
    print(len(chosen), "features,", {k: kinds.count(k) for k in set(kinds)}, len(FAMILIES), "families")


if __name__ == "__main__":
    main(sys.argv[1])
