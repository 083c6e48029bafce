"""Names that differ from one Wikipedia to the next: prefixes of links, redirects, disambiguation, sections that only cite.

MediaWiki's own words (its languages/messages files) and the customs of each wiki, for the 20 languages of LLaMA
(arXiv:2302.13971) and a few more; a dump's <siteinfo> adds its own prefixes for any other."""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip().lower() for line in text.strip().splitlines() for word in line.split(","))


FILE = _words("""
    file, image, media, video
    файл, картинка, изображение, зображення, медия, медіа, медиа, слика, датотека, медиј
    fitxer, imatge, soubor, obrázek, média, médium, fil, billede, datei, bild, archivo, imagen, medio
    fichier, datoteka, slika, mediji, fájl, kép, immagine, bestand, afbeelding, plik, grafika
    ficheiro, imagem, arquivo, multimédia, fișier, fişier, imagine, tiedosto, kuva
    ファイル, 画像, メディア, ملف, صورة, وسائط, 文件, 图像, 檔案, 파일, 그림, קובץ, תמונה, dosya, resim, tập tin, berkas
""")
CATEGORY = _words("""
    category, категория, категорија, категорія, categoria, kategorie, kategori, categoría, catégorie
    kategorija, kategória, categorie, kategoria, luokka, カテゴリ, تصنيف, 分类, 分類, 분류, קטגוריה, thể loại
""")
LANGUAGES = frozenset(
    """aa ab ace ady af ak als alt am ami an ang ann anp ar arc ary arz as ast atj av avk awa ay az azb ba ban bar bat-smg
    bcl be be-tarask be-x-old bew bg bh bi bjn blk bm bn bo bpy br bs btm bug bxr ca cbk-zam cdo ce ceb ch chr chy ckb co
    cr crh cs csb cu cv cy da dag de dga din diq dsb dtp dty dv dz ee el eml en eo es et eu ext fa fat ff fi fiu-vro fj fo
    fon fr frp frr fur fy ga gag gan gcr gd gl glk gn gom gor got gpe gu guc gur guw gv ha hak haw he hi hif ho hr hsb ht
    hu hy hyw hz ia iba id ie ig igl ii ik ilo inh io is it iu ja jam jbo jv ka kaa kab kbd kbp kcg kg kge ki kj kk kl km
    kn ko koi kr krc ks ksh ku kus kv kw ky la lad lb lbe lez lfn lg li lij lld lmo ln lo lrc lt ltg lv mad mai map-bms mdf
    mg mh mhr mi min mk ml mn mni mnw mos mr mrj ms mt mwl my myv mzn na nah nap nds nds-nl ne new ng nia nl nn no nov nqo
    nr nrm nso nv ny oc olo om or os pa pag pam pap pcd pcm pdc pfl pi pih pl pms pnb pnt ps pt pwn qu rm rmy rn ro
    roa-rup roa-tara ru rue rw sa sah sat sc scn sco sd se sg sh shi shn si simple sk skr sl sm smn sn so sq sr srn ss st
    stq su sv sw szl szy ta tay tcy tdd te tet tg th ti tk tl tly tn to tpi tr trv ts tt tum tw ty tyv udm ug uk ur uz ve
    vec vep vi vls vo wa war wo wuu xal xh xmf yi yo yue za zea zgh zh zh-classical zh-min-nan zh-yue zu""".split()
)
VANISHING = FILE | CATEGORY | LANGUAGES

REDIRECT = re.compile(
    r"\s*#\s*(?:redirect|redirección|redirecció|redirection|redirecionamento|rinvia|rimando|weiterleitung|doorverwijzing"
    r"|patrz|przekieruj|tam|omdirigering|átirányítás|presmeruj|přesměruj|preusmjeri|preusmeri|преусмери|redirecteaza"
    r"|перенаправление|перенапр|перенаправлення|пренасочване|виж|ohjaus|uudelleenohjaus|転送|リダイレクト|تحويل|重定向)\s*:?\s*\[\[",
    re.IGNORECASE,
)

_DISAMBIGUATION = """
    dab|disamb|disambig|disambiguation cleanup|hndis|geodis|numberdis|surname disambiguation|mil-unit-dis
    |пояснение|поясняваща страница|desambiguació|desambigua|rozcestník|flertydig|begriffsklärung|desambiguación|desambig
    |homonymie|homonymes|patronymie|toponymie|paronymie|razdvojba|razdvojba1|egyért|egyértelműsítő lap|egyért-redir
    |disambigua|doorverwijspagina|dp|dpintro|ujednoznacznienie|strona ujednoznaczniająca|desambiguação|desambig-ini
    |dezambiguizare|dezambig|неоднозначность|многозначность|фамилии|razločitev|preusmeritvena stran
    |вишезначна одредница|вишезначност|višeznačna odrednica|förgrening|gren|grensida|namnförgrening|ortnamn förgrening
    |багатозначність|неоднозначність|багатозначність без посилань|täsmennyssivu|曖昧さ回避|aimai|توضيح|صفحة توضيح|消歧义|消歧義
"""
DISAMBIGUATION = re.compile(
    r"\{\{\s*+(?:[^|{}\n]{0,40}\bdisambiguation|"
    + "".join(map(str.strip, _DISAMBIGUATION.splitlines()))
    + r")\s*+[|}\n]"
    r"|__DISAMBIG__",
    re.IGNORECASE,
)

CITED_SECTIONS = {
    language: _words(titles)
    for language, titles in {
        "en": """see also, references, external links, further reading, notes, footnotes, bibliography, sources, citations
            notes and references, references and notes, explanatory notes, works cited, general references, endnotes
            general and cited references, cited sources, cited works, footnotes and references, literature cited""",
        "bg": """вижте също, виж също, източници, външни препратки, бележки, литература, библиография
            бележки и източници, цитирани източници, допълнителна литература, източници и бележки, използвана литература""",
        "ca": """vegeu també, referències, enllaços externs, bibliografia, notes, notes i referències, fonts
            referències i notes, per a més informació, bibliografia complementària""",
        "cs": "související články, reference, externí odkazy, literatura, poznámky, odkazy, poznámky a reference, zdroje",
        "da": """se også, referencer, eksterne henvisninger, litteratur, noter, kilder, eksterne links, fodnoter, henvisninger
            noter og referencer, kilder og henvisninger, eksterne kilder/henvisninger, noter/kilder, referencer og noter""",
        "de": """siehe auch, einzelnachweise, weblinks, literatur, anmerkungen, fußnoten, quellen, belege
            einzelnachweise und anmerkungen, anmerkungen und einzelnachweise, literatur und quellen""",
        "es": """véase también, referencias, enlaces externos, bibliografía, notas, notas y referencias, fuentes
            referencias y notas, lectura adicional, bibliografía adicional, ver también""",
        "fr": """voir aussi, références, liens externes, lien externe, bibliographie, notes et références, notes
            articles connexes, annexes, sources, pour approfondir, notes, sources et références""",
        "hr": """vidi još, vidi također, izvori, vanjske poveznice, literatura, bilješke, napomene, reference, poveznice
            bilješke i izvori, izvori i bilješke, povezani članci""",
        "hu": """lásd még, jegyzetek, források, külső hivatkozások, további információk, kapcsolódó szócikkek, irodalom
            hivatkozások, megjegyzések, forrás, további irodalom, ajánlott irodalom""",
        "it": "voci correlate, note, collegamenti esterni, bibliografia, altri progetti, riferimenti, fonti",
        "nl": """zie ook, referenties, externe links, externe link, literatuur, noten, bronnen, voetnoten, bronvermelding
            bronnen, noten en/of referenties, bronnen en noten, noten en referenties, externe verwijzingen, verder lezen""",
        "pl": "zobacz też, przypisy, linki zewnętrzne, bibliografia, uwagi, źródła, literatura, literatura uzupełniająca",
        "pt": """ver também, referências, ligações externas, bibliografia, notas, notas e referências, fontes
            referências bibliográficas, links externos, leitura adicional, leitura complementar""",
        "ro": """vezi și, vezi şi, referințe, referinţe, note, legături externe, bibliografie, note și referințe
            note, referințe, lectură suplimentară, surse, bibliografie suplimentară, lectură recomandată""",
        "ru": """см. также, примечания, ссылки, литература, источники, комментарии, сноски, библиография
            примечания и источники, источники и литература""",
        "sl": "glej tudi, sklici, zunanje povezave, viri, literatura, opombe, opombe in sklici, viri in literatura",
        "sr": """види још, види такође, референце, извори, спољашње везе, литература, напомене, белешке, фусноте
            vidi još, reference, izvori, spoljašnje veze, literatura, napomene""",
        "sv": """se även, referenser, externa länkar, litteratur, noter, källor, vidare läsning, fotnoter, källhänvisningar
            anmärkningar, källor och referenser, noter och referenser, vidare läsning och externa länkar""",
        "uk": """див. також, дивіться також, примітки, посилання, література, джерела, виноски, бібліографія
            джерела та література, примітки та посилання, джерела та примітки""",
        "fi": "katso myös, lähteet, viitteet, aiheesta muualla, kirjallisuutta, kirjallisuus, huomautukset",
        "ja": "関連項目, 脚注, 外部リンク, 参考文献, 注釈, 出典, 注釈・出典",
        "ar": "انظر أيضا, انظر أيضًا, مراجع, المراجع, وصلات خارجية, روابط خارجية, هوامش, مصادر, المصادر, ملاحظات, مواقع خارجية",
    }.items()
}
