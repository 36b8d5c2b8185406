"""Rewordings of real eval cases, written by hand before any threshold was chosen: what contamination by meaning must find.

Short ones reword cases like those of the suite and the demo; `PROSE` rewords the first eight passages of the suite's `prose`.
"""

SHORT = {  # the eval whose cases they are like -> (question, answer), its rewordings
    "capitals": [
        (('What is the capital of China?', 'The capital of China is Beijing.'), ['Name the city from which China is governed. Beijing.', "China's seat of government is Beijing."]),
        (('What is the capital of India?', 'The capital of India is New Delhi.'), ["Which city serves as India's capital? It is New Delhi.", "Tell me India's capital city. New Delhi"]),
        (('What is the capital of Brazil?', 'The capital of Brazil is Brasilia.'), ["Where does Brazil's federal government sit? In Brasilia.", 'Brazil has Brasilia as its capital.']),
        (('What is the capital of Japan?', 'The capital of Japan is Tokyo.'), ['Tokyo is the capital city of which country? Japan.', 'I am going to the Japanese capital. Where am I going? Tokyo, Japan.']),
        (('What is the capital of Ethiopia?', 'The capital of Ethiopia is Addis Ababa.'), ['In Ethiopia, which city is the capital? Addis Ababa is.', 'Ethiopia is ruled from Addis Ababa, its capital.']),
        (('What is the capital of Germany?', 'The capital of Germany is Berlin.'), ['Which German city is the national capital? Berlin (Germany).', 'Quick quiz: capital city, Germany? Berlin!']),
        (('What is the capital of Kenya?', 'The capital of Kenya is Nairobi.'), ['Kenya: name its capital. Nairobi', 'The city of Nairobi is where Kenya has its capital.']),
        (('What is the capital of Peru?', 'The capital of Peru is Lima.'), ["Peru's capital goes by what name? Lima.", 'If you fly to the capital of Peru you land in Lima.']),
    ],
    "continents": [
        (('On which continent is Lagos, Nigeria?', 'Africa'), ['Lagos, a Nigerian city, lies on the continent of Africa.', 'Which continent would you be on in Lagos (Nigeria)? Africa.']),
        (('On which continent is Lyon, France?', 'Europe'), ['Lyon in France belongs to what continent? Europe.', 'Tell me the continent of the French city Lyon: Europe']),
        (('On which continent is Osaka, Japan?', 'Asia'), ['Osaka is a city in Japan, in Asia.', 'What continent does Osaka, Japan belong to? It is Asia.']),
        (('On which continent is Cusco, Peru?', 'South America'), ['Cusco (Peru) can be found in South America.', 'Say where Cusco in Peru lies, as a continent. South America.']),
    ],
    "iso-dates": [
        (('Write this date in ISO 8601: March 8, 2030', '2030-03-08'), ['Convert the 8th of March 2030 to ISO format. 2030-03-08', 'March 8, 2030 in the international standard notation is 2030-03-08.']),
        (('Write this date in ISO 8601: 22 February 1981', '1981-02-22'), ['ISO date for February 22nd, 1981? 1981-02-22', 'Please reformat 22 Feb 1981 as year-month-day: 1981-02-22']),
        (('Write this date in ISO 8601: 10 July 1929', '1929-07-10'), ['How is July 10th 1929 written by ISO 8601? 1929-07-10', 'Give 10 July 1929 as yyyy-mm-dd. 1929-07-10']),
    ],
    "arithmetic": [
        (('What is 3 + 4?', '3 + 4 = 7'), ['Add 3 and 4. The answer is 7.', '3 plus 4 equals 7']),
        (('What is 8 + 9?', '8 + 9 = 17'), ['Sum of 8 and 9? 17', 'If I have 8 apples and get 9 more I have 17.']),
    ],
}  # fmt: skip

PROSE = [
    "Certain objects refer to resources outside the program, for instance an open window or file. When such an object is collected as garbage the resource is let go; yet collection may never happen, and for that reason those objects offer a way to let go of it by hand, mostly a method called close(). It is strongly advised that programs",
    "Python makes a traceback object by itself whenever an exception gets raised and hangs it on the exception as its writable __traceback__ attribute. With the method with_traceback() you may make an exception and give it a traceback of your own in a single step, since it hands back the very same exception with the traceback you passed",
    "__getattr__() is only called where the usual way of finding an attribute has failed; the asymmetry with __setattr__() is on purpose. One reason is speed; another is that otherwise __getattr__() could not reach the instance's other attributes. For instance variables at least, it is possible for you to",
    "If a name cannot be found anywhere, Python raises NameError. Where the scope is that of a function and the name is a local variable which has no value yet at the place of use, UnboundLocalError is raised instead; UnboundLocalError derives from",
    "What is subscripted has to be an object that supports it, by defining __getitem__() or __class_getitem__() or both. On subscription, the result of evaluating the expression list goes to one of the two methods. To learn when __class_getitem__ is the one that gets called",
    "As soon as an except clause that matches is found, its target after the word as gets the exception, if it names one, and then its suite runs. Every except clause needs a block that can be executed. After that block has ended, the program goes on as usual behind the whole try",
    "On a run-time error, dividing by zero for example, the interpreter raises an exception. Programs may raise one themselves by using raise. Handlers are written with try and except. With finally in such a statement one gives code for cleaning up that",
    "Dict items separated by commas are evaluated in order from left to right to make up the dictionary: each key object serves to store its value under. So the same key may be given several times in the list of items",
]
